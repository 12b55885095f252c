"""`synood export`: the door to the WebDataset export; what is in the tar files: tests/storage/test_webdataset.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from synood_ray.cli.main import main
from synood_ray.storage.publish import publish
from synood_ray.storage.stores import open_store
from tests.storage.builders import commit, make_run


def make(folder: Path, samples: int = 20, published: bool = True) -> str:
    store = open_store(str(folder))
    commit(store, make_run(store, samples=samples))
    if published:
        publish(store)
    return str(folder)


def test_a_published_run_is_exported_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, target = make(tmp_path / "run"), tmp_path / "tars"
    for _ in range(2):
        assert main(["export", "--run", run, "--to", str(target)]) == 0
        assert capsys.readouterr().out == f"exported 1 tar file to {target}\n"
    assert [path.name for path in target.glob("[!.]*")] == ["synood-00000.tar"]


def test_what_cannot_be_exported_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, target = make(tmp_path / "run"), tmp_path / "tars"
    assert main(["export", "--run", run, "--to", str(target)]) == 0
    other, unfinished = make(tmp_path / "other", samples=9), make(tmp_path / "unfinished", published=False)
    for wrong, message in (
        (other, "belongs to another export; choose another --to"),
        (unfinished, "the run is not finished; finish it with synood synthesize --output"),
        (str(target), "no run here"),
    ):
        assert main(["export", "--run", wrong, "--to", str(target)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert [path.name for path in target.glob("[!.]*")] == ["synood-00000.tar"]
