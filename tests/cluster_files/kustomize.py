"""What `kubectl kustomize` makes of an overlay of ours: resources, JSON patches, generated ConfigMaps.

Knows no more of kustomize than these files use; whatever else stands in a kustomization is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KNOWN = {"apiVersion", "kind", "resources", "patches", "configMapGenerator"}


def build(folder: Path) -> list[dict[str, Any]]:
    """All documents of an overlay. Raises AssertionError for what kustomize would refuse."""
    tree = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(tree) <= KNOWN, f"{folder}: {set(tree) - KNOWN}"
    documents: list[dict[str, Any]] = []
    for name in tree.get("resources", []):
        path = folder / name
        assert path.exists(), f"{folder}: no {name}"
        documents += build(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for generated in tree.get("configMapGenerator", []):
        data = {name: (folder / name).read_text() for name in generated["files"]}
        metadata = {"name": generated["name"]}
        documents.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    for patch in tree.get("patches", []):
        target = patch["target"]
        found = [d for d in documents if d["kind"] == target["kind"] and d["metadata"]["name"] == target["name"]]
        assert len(found) == 1, f"{folder}: {len(found)} targets of {patch['path']}"
        for step in yaml.safe_load((folder / patch["path"]).read_text()):
            apply(found[0], step)
    return documents


def apply(document: dict[str, Any], step: dict[str, Any]) -> None:
    """One step of a JSON patch (RFC 6902): add, replace or remove."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
    place: Any = document
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    if step["op"] == "add":
        place[last] = step["value"]
    elif step["op"] == "replace":
        assert last in place, f"nothing to replace at {step['path']}"
        place[last] = step["value"]
    else:
        assert step["op"] == "remove", step["op"]
        del place[last]
