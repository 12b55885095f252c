"""The dataset card: a README that the Hugging Face hub and its viewer understand, and people too."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import yaml

from synood_ray.config.fingerprint import counted_fields
from synood_ray.storage.record import RunRecord

_SEAL = re.compile(r"\n<!-- synood_ray [0-9a-f]{64} -->\n\Z")


def dataset_card(record: RunRecord, manifest: dict[str, Any]) -> str:
    """Markdown with YAML front matter. The same run gives the same card; its last line tells it from others."""
    return _sealed(_text(record, manifest, {}))


def hub_card(record: RunRecord, manifest: dict[str, Any], licence: str) -> str:
    """The card of a run that is shared: with its licence ("" while it is not known) and where the images come from."""
    front: dict[str, Any] = {"license": licence} if licence else {}
    front |= {"annotations_creators": ["machine-generated"], "source_datasets": ["original"]}
    return _text(record, manifest, front) + _provenance(record, licence)


def _provenance(record: RunRecord, licence: str) -> str:
    config = record.config
    models = [
        f"| {role} | `{name}` | {config[role].get('revision') or config[role].get('pretrained') or ''} |"
        for role in ("describer", "inpainter", "scorer")
        if (name := config[role].get("model"))
    ]
    return f"""
## Provenance

Machine-made by synood_ray {record.packages.get("synood_ray", "")}: no image here is a photograph of what it shows.
Every row names the ID image that it was painted from (`source_key`, of `{config["data"]["uri"]}`) and keeps its
surroundings; what is made of an image that somebody wants removed is found by that key.

| role | model | revision |
|---|---|---|
{chr(10).join(models)}

Recipe `{config["sampling"]["recipe"]}`, seed {config.get("seed", 0)}; `run.json` has every setting, `manifest.json` the
SHA-256 of every file.

## Licence

{licence or "not given"}. The licences of the ID images and of the models' outputs count besides.
"""


def is_dataset_card(text: str) -> bool:
    """Whether this is a card as `dataset_card` wrote it, and nobody has changed it since."""
    return text == _sealed(_SEAL.sub("", text))


def _sealed(text: str) -> str:
    return f"{text}\n<!-- synood_ray {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def _text(record: RunRecord, manifest: dict[str, Any], more: dict[str, Any]) -> str:
    front = {
        "pretty_name": "Near-boundary out-of-distribution images",
        "task_categories": ["image-classification"],
        "tags": ["out-of-distribution-detection", "synthetic"],
        "size_categories": [_size_category(sum(shard["rows"] for shard in manifest["shards"]))],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
        **more,
    }
    names = ("planned", "accepted", "rejected", "failed", "quarantined", "left_out")
    counts = "\n".join(f"| {name.replace('_', ' ')} | {manifest[name]} |" for name in names if name in manifest)
    settings = dict(counted_fields(record.config))
    config = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    packages = ", ".join(f"{name} {version}" for name, version in sorted(record.packages.items()))
    return f"""---
{yaml.safe_dump(front, sort_keys=False)}---

# Near-boundary out-of-distribution images

Images made by synood_ray from the images of {len(record.classes)} classes. Each started as an image of a class and was
repainted until the OOD score of a CLIP model put it on the boundary between in- and out-of-distribution
(SynOOD, arXiv 2507.10225). Use the rows with `accepted` true; the others are kept with the reason in `reject_reason`.

| samples | |
|---|---|
{counts}

`margin` is the distance from the boundary in standard deviations of the scores of in-distribution images; positive is
in-distribution. `companion` is an in-distribution image made in the same way, with the source's own class. `feature` is
the image's, by the CLIP that scored it, of unit length.

```python
datasets.load_dataset("parquet", data_files="data/train-*.parquet", split="train").filter(lambda row: row["accepted"])
```

Fingerprint `{record.fingerprint}`, made with {packages}, and these settings:

```yaml
{config}```
"""


def _size_category(rows: int) -> str:
    """The hub's name for a number of rows."""
    bounds = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]
    return next((name for bound, name in bounds if rows < bound), "1M<n<10M")
