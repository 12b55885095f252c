"""Fine-tuning killed at its crash points (docs/crash-points.md): a real process, SIGKILL, the same command again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from synood_ray.storage import layout
from synood_ray.training.job import run_finetune
from tests.detection.tiny_clip import save_tiny_clip
from tests.training.run_folder import make_run, make_settings

pytestmark = pytest.mark.slow

_KILLED = """
import os, signal, sys
from synood_ray.config.settings import Settings
from synood_ray.storage.stores.local import LocalStore
from synood_ray.storage.stores import open_store
from synood_ray.training.job import run_finetune

settings = Settings.model_validate_json(sys.argv[1])
put = LocalStore.put_new

def put_and_die(self, key, data):
    if key.startswith(sys.argv[2]) and sys.argv[3] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    found = put(self, key, data)
    if key.startswith(sys.argv[2]) and sys.argv[3] == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return found

LocalStore.put_new = put_and_die
run_finetune(open_store(settings.output), settings)
"""

POINTS = {
    "the ID images' features are kept": ("features/images", "after"),
    "all features are kept": ("features/samples", "after"),
    "between two checkpoints": ("training/", "after"),
    "the weights are there, the detector is not": ("detector/detector.json", "before"),
    "the detector is there, its writer does not know": ("detector/detector.json", "after"),
}


@pytest.mark.parametrize("point", POINTS)
def test_killed(tmp_path: Path, point: str) -> None:
    settings = make_settings(tmp_path, str(save_tiny_clip(tmp_path / "clip")))
    store = make_run(settings)
    command = [sys.executable, "-c", _KILLED, settings.model_dump_json(), *POINTS[point]]
    threads = str(torch.get_num_threads())  # sums differ in the last bit with another number of them
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    fresh = run_finetune(store, settings).fresh
    assert fresh == (point != "the detector is there, its writer does not know")
    assert not list(store.list("training/"))
    other = settings.model_copy(update={"output": str(tmp_path / "undisturbed")})
    undisturbed = make_run(other)
    run_finetune(undisturbed, other)
    for prefix in (layout.DETECTOR, layout.FEATURES):
        ours = {entry.key: store.get(entry.key) for entry in store.list(prefix)}
        assert ours == {entry.key: undisturbed.get(entry.key) for entry in undisturbed.list(prefix)}


def test_killed_between_two_scores(tmp_path: Path) -> None:
    """The old detector is removed, the new one is not there yet: it is trained, to the same bytes."""
    settings = make_settings(tmp_path, str(save_tiny_clip(tmp_path / "clip")))
    settings.detector.score = "neglabel"
    store = make_run(settings)
    run_finetune(store, settings)
    settings.detector.score = "joint"
    command = [sys.executable, "-c", _KILLED, settings.model_dump_json(), "detector/detector.json", "before"]
    threads = str(torch.get_num_threads())
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not store.exists("detector/detector.json")
    result = run_finetune(store, settings)
    assert result.fresh and result.rescored is None
    other = settings.model_copy(update={"output": str(tmp_path / "undisturbed")})
    undisturbed = make_run(other)
    run_finetune(undisturbed, other)
    ours = {entry.key: store.get(entry.key) for entry in store.list(layout.DETECTOR)}
    assert ours == {entry.key: undisturbed.get(entry.key) for entry in undisturbed.list(layout.DETECTOR)}
