"""The main job on real parts, step by step on one run."""

from __future__ import annotations

import hashlib
import io
import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.jobs.conftest import LIMIT, run, start, status

pytestmark = pytest.mark.real


def keys(folder: Path) -> list[str]:
    shards = json.loads((folder / "manifest.json").read_text())["shards"]
    return [key for shard in shards for key in pq.read_table(folder / shard["path"])["key"].to_pylist()]


def test_the_manifest_tells_the_truth(finished_run: Path) -> None:
    manifest = json.loads((finished_run / "manifest.json").read_text())
    for shard in manifest["shards"]:
        data = (finished_run / shard["path"]).read_bytes()
        assert len(data) == shard["bytes"]
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]
        assert pq.read_metadata(io.BytesIO(data)).num_rows == shard["rows"]
    assert sorted(keys(finished_run)) == sorted(set(keys(finished_run)))
    assert len(keys(finished_run)) == LIMIT


def test_samples_are_what_they_say(finished_run: Path) -> None:
    """Scores, margins and reasons agree with each other and with the calibrated boundary."""
    boundary = json.loads((finished_run / "calibration.json").read_text())
    low, high = json.loads((finished_run / "run.json").read_text())["config"]["sampling"]["band"]
    rows = [r for f in sorted((finished_run / "data").glob("*.parquet")) for r in pq.read_table(f).to_pylist()]
    assert sum(row["accepted"] for row in rows) > LIMIT / 4
    for row in rows:
        assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (64, 64)
        assert row["rounds"] == len(row["score_trace"]) == len(row["margin_trace"])
        for score, margin in zip(row["score_trace"], row["margin_trace"], strict=True):
            assert margin == pytest.approx((score - boundary["tau"]) / boundary["sigma"], abs=1e-4)
        nearest = min(row["margin_trace"], key=lambda margin: max(low - margin, margin - high, 0))
        assert row["margin"] == pytest.approx(nearest)
        assert (row["reject_reason"] == "rounds") == (not low <= row["margin"] <= high)
        assert row["accepted"] == (row["reject_reason"] == "")
        assert row["reject_reason"] in ("", "rounds", "clip", "empty", "mllm", "duplicate")
        assert row["negative_label"] or not row["accepted"]
        assert row["policy"] in ("blend", "switch") and row["names"] == [row["source_name"], row["partner"]]


def test_prompts_name_the_context_and_not_the_subject(finished_run: Path) -> None:
    rows = [r for f in (finished_run / "prompts").glob("*.parquet") for r in pq.read_table(f).to_pylist()]
    assert len(rows) == LIMIT
    assert len({row["context"] for row in rows}) > LIMIT / 8


def test_status(finished_run: Path) -> None:
    found = status(finished_run)
    assert found["planned"] == found["committed"] == LIMIT // 16
    assert found["accepted"] + found["rejected"] + found["failed"] == LIMIT
    assert found["published"] is True and found["waiting"] == found["leased"] == found["quarantined"] == 0


def test_the_same_command_again_computes_nothing(finished_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    again = run(
        "synthesize", "--preset", "mini", "--output", finished_run, "--limit", str(LIMIT), "--farm.unit_size", "16"
    )
    assert "finished already" in again.stdout and "Ray" not in again.stdout
    assert {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")} == before


def test_an_output_of_another_configuration_is_refused(finished_run: Path) -> None:
    arguments = ("--preset", "mini", "--output", finished_run, "--limit", str(LIMIT), "--farm.unit_size", "16")
    refused = run("synthesize", *arguments, "--sampling.band", "0.5", code=2)
    assert "sampling.band" in refused.stderr and len(refused.stderr.strip().splitlines()) == 1


def test_interrupted_and_resumed(finished_run: Path, tmp_path: Path) -> None:
    """Ctrl-C once something is committed; the same command goes on and makes exactly what was planned."""
    folder = tmp_path / "run"
    arguments = ("--preset", "mini", "--output", folder, "--limit", "32", "--farm.unit_size", "1")
    arguments += ("--sampling.batch_size", "1")  # units of one image are filled up with copies to a whole batch
    arguments += ("--describer.contexts", finished_run / "prompts", "--sampling.mllm_check", "false")
    process = start("synthesize", *arguments, "--farm.status_every", "0.01")
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if line.startswith("samples ") and not line.startswith("samples 0/"):
            break
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    message = process.stderr.read()
    assert process.wait(timeout=60) == 130
    assert "Traceback" not in message and "same command" in message
    committed = status(folder)["committed"]
    assert 0 < committed < 32
    parts = {path: path.read_bytes() for path in (folder / "parts").iterdir()}
    resumed = run("synthesize", *arguments)
    assert f"{32 - len(parts)} units computed now" in resumed.stdout
    assert len(keys(folder)) == len(set(keys(folder))) == 32


def test_detector_and_evaluation(finished_run: Path) -> None:
    run("finetune", "--run", finished_run)
    run("evaluate", "--run", finished_run)
    found = json.loads((finished_run / "evaluation.json").read_text())
    assert set(found["sets"]) == {"near/mini", "far/mini"}
    for methods in found["sets"].values():
        assert set(methods) >= {"mcm", "energy", "neglabel", "synood"}
        for figures in methods.values():
            names = ("auroc", "fpr95_id_positive", "fpr95_ood_positive", "aupr_in", "aupr_out")
            assert all(0 <= figures[name] <= 1 for name in names)
    assert all(0 <= method["accuracy"] <= 1 for method in found["id"].values())
    assert "<html" in (finished_run / "report" / "index.html").read_text()


def test_other_readers_read_the_shards(finished_run: Path) -> None:
    import datasets
    import pandas as pd

    pattern = str(finished_run / "data" / "*.parquet")
    table = datasets.load_dataset("parquet", data_files=pattern, split="train", cache_dir=str(finished_run / "cache"))
    assert isinstance(table[0]["image"], Image.Image)
    assert table["key"][:] == pd.concat(map(pd.read_parquet, sorted((finished_run / "data").iterdir())))["key"].tolist()
