"""`synood status`: units and samples apart; what is counted: tests/storage/test_progress.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synood_ray.cli.main import main
from synood_ray.storage.publish import publish
from synood_ray.storage.stores import open_store
from tests.storage.builders import commit, make_run


def test_units_and_samples_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(str(tmp_path))
    commit(store, make_run(store), failed=["00000001"])
    publish(store)
    assert main(["status", "--run", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split("\n") == [
        f"{tmp_path}: published",
        "",
        "units",
        "  planned             4",
        "  committed           4",
        "  waiting             0",
        "  leased              0",
        "  quarantined         0",
        "",
        "samples",
        "  planned            20",
        "  accepted           14",
        "  rejected            5",
        "  failed              1",
        "",
        "near-duplicates: not looked for, no accepted sample has a CLIP feature",
        "",
    ]


def test_as_json_the_names_of_before_are_there_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(str(tmp_path))
    commit(store, make_run(store), units=[0])
    assert main(["status", "--run", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["units"] == {"planned": 4, "committed": 1, "waiting": 3, "leased": 0, "quarantined": 0}
    assert found["samples"] == {"planned": 20, "accepted": 5, "rejected": 1, "failed": 0}
    assert found["diversity"] is None and found["again"] is None
    flat = {name: value for name, value in found.items() if name not in ("units", "samples", "diversity", "again")}
    kept = {name: found["samples"][name] for name in ("accepted", "rejected", "failed")}
    assert flat == found["units"] | kept | {"published": False}
