"""`synood push` against a Hub of this process: dry by default, then dataset and detector, nothing without a licence."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from synood_ray.cli.main import main
from synood_ray.storage.hub import dataset_files
from synood_ray.storage.run import Run
from tests.detection.fake_hub import FakeHub, environment, fake_hub
from tests.training.run_folder import make_run, make_settings

OLD = Path(__file__).parents[1] / "old_runs" / "0.1.0"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as server:
        yield server


def push(url: str, home: Path, *argv: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    own = {**environment(url, home), "HF_TOKEN": "hf_x"}
    command = [sys.executable, "-m", "synood_ray", "push", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=own)


def test_without_yes_nothing_is_asked_of_anybody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path, "none")
    store = make_run(settings)
    assert main(["push", "--run", settings.output, "--to", "me/set"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "dataset me/set, private, licence not given yet (--license):"
    size = len(store.get("data/train-00000-of-00001.parquet"))
    assert lines[1].split() == [f"{size:,}", "data/train-00000-of-00001.parquet"]
    assert [line.split()[1] for line in lines[2:5]] == ["manifest.json", "run.json", "README.md"]
    assert lines[5:] == ["no detector: the run is not fine-tuned", "nothing was sent; --yes sends it"]


@pytest.mark.real
def test_dataset_and_detector_arrive(hub: FakeHub, tmp_path: Path) -> None:
    run = Path(shutil.copytree(OLD, tmp_path / "run"))
    done = push(hub.url, tmp_path / "home", "--run", run, "--to", "me/set", "--license", "cc-by-4.0", "--yes")
    assert done.returncode == 0, done.stderr
    (files,) = hub.commits["datasets/me/set"]
    assert hub.private == {"datasets/me/set": True, "me/set": True}
    manifest = json.loads(files["manifest.json"])
    for shard in manifest["shards"]:
        assert hashlib.sha256(files[shard["path"]]).hexdigest() == shard["sha256"]
    assert pq.read_table(io.BytesIO(files["data/train-00000-of-00001.parquet"])).num_rows == 8
    front = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert front["license"] == "cc-by-4.0" and "synthetic" in front["tags"]
    assert "## Provenance" in files["README.md"].decode() and "mini://models/inpainting" in files["README.md"].decode()
    assert {"run.json", "calibration.json", "evaluation.json"} < set(files) and "id-manifest.parquet" not in files
    (model,) = hub.commits["me/set"]
    assert "detector.json" in model and "datasets/me/set" in model["README.md"].decode()


@pytest.mark.real
def test_what_an_earlier_push_has_left_goes(hub: FakeHub, tmp_path: Path) -> None:
    """Shards of another number, which the card's pattern would take along, and what their samples were measured to be;
    what somebody else has put there stays."""
    older = {"data/train-00000-of-00002.parquet": b"1", "data/train-00001-of-00002.parquet": b"2"}
    hub.commits["datasets/me/set"] = [{**older, "evaluation.json": b"{}", "data/notes.txt": b"mine"}]
    hub.private["datasets/me/set"] = True
    settings = make_settings(tmp_path, "none")
    make_run(settings)
    arguments = ("--run", settings.output, "--to", "me/set", "--license", "other", "--yes")
    done = push(hub.url, tmp_path / "home", *arguments)
    assert done.returncode == 0, done.stderr
    found = hub.commits["datasets/me/set"][-1]
    assert [name for name in sorted(found) if name.startswith("data/")] == [
        "data/notes.txt",
        "data/train-00000-of-00001.parquet",
    ]
    assert "evaluation.json" not in found and "README.md" in found


def test_sources_of_an_opt_out_list_stay_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path, "none")
    run = Run.open(make_run(settings))
    keys = [row.source_key for row in run.samples()]
    (tmp_path / "list.txt").write_text(f"{keys[0]}\n{keys[1]}\nnobody.png\n")
    arguments = ["push", "--run", settings.output, "--to", "me/set", "--leave-out", str(tmp_path / "list.txt")]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    told = "left out: 2 sources of the list, 0 near another one; 1 line of the list match no source ('nobody.png')"
    assert lines[0] == f"{told}; 2 samples of {len(keys)} stay here"
    assert [line.split()[1] for line in lines[2:5]] == [
        "data/train-00000-of-00001.parquet",
        "manifest.json",
        "run.json",
    ]

    found, stay = dataset_files(run, "", frozenset(keys[:2]))
    assert stay == 2
    files = {one.path: one for one in found}
    contents = {path: one.open() for path, one in files.items()}
    shard, manifest = contents["data/train-00000-of-00001.parquet"], json.loads(contents["manifest.json"])
    assert all(len(contents[path]) == one.size for path, one in files.items())
    table = pq.read_table(io.BytesIO(shard))
    assert table.column("source_key").to_pylist() == keys[2:] and b"huggingface" in table.schema.metadata
    (entry,) = manifest["shards"]
    assert entry["sha256"] == hashlib.sha256(shard).hexdigest() and entry["rows"] == len(keys) - 2
    assert manifest["accepted"] == sum(table.column("accepted").to_pylist()) and manifest["left_out"] == 2
    assert sum(manifest[kind] for kind in ("accepted", "rejected", "failed")) == len(keys) - 2
    assert "| left out | 2 |" in contents["README.md"].decode()
    assert not any(key.encode() in content for key in keys[:2] for content in contents.values())


def test_the_hubs_refusals_are_one_line(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "none")
    make_run(settings)
    arguments = ("--run", settings.output, "--to", "me/set", "--license", "other", "--yes")
    away = push("http://127.0.0.1:1", tmp_path / "home", *arguments)
    assert away.returncode == 4 and away.stderr.startswith("error: the Hub is not reached: ")
    assert "Traceback" not in away.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--to", "set"], "--to set: name a repository of the Hub as USER/NAME"),
        (["--to", "me/set", "--yes"], "--license: say under which licence the images go"),
        (["--to", "me/set", "--license", "CC BY"], "--license 'CC BY': give the Hub's name for one"),
        ([], "to: no place named; give --to"),
    ],
)
def test_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str) -> None:
    assert main(["push", "--run", str(tmp_path), *options]) == 2
    assert capsys.readouterr().err.startswith(f"error: {told}")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--leave-out", "/nowhere/list"], "--leave-out /nowhere/list: cannot be read as text"),
        (["--distinct-sources", "2"], "--distinct-sources: must be a CLIP distance between 0 and 1"),
        (["--distinct-sources", "0.1"], "--distinct-sources: "),
    ],
)
def test_wrong_filters(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str], told: str) -> None:
    settings = make_settings(tmp_path, "none")
    make_run(settings)
    assert main(["push", "--run", settings.output, "--to", "me/set", *option]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {told}") and not said.out


def test_a_run_that_is_going_is_not_shared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path, "none")
    make_run(settings).delete("manifest.json")
    assert main(["push", "--run", settings.output, "--to", "me/set"]) == 2
    assert "the run is not finished" in capsys.readouterr().err
