"""Evaluation and report killed at their crash points (docs/crash-points.md): SIGKILL, then the same command again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from synood_ray.cli.main import main
from synood_ray.storage import layout
from synood_ray.storage.stores.base import Store
from synood_ray.training.job import train
from tests.detection.tiny_clip import save_tiny_clip
from tests.training.run_folder import make_run, make_settings

pytestmark = pytest.mark.slow

_KILLED = """
import os, signal, sys
from synood_ray.cli.main import main
from synood_ray.storage.stores.local import LocalStore

act = getattr(LocalStore, sys.argv[1])

def act_and_die(self, key, *data):
    if key == sys.argv[3] and sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    found = act(self, key, *data)
    if key == sys.argv[3] and sys.argv[2] == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return found

setattr(LocalStore, sys.argv[1], act_and_die)
main(["evaluate", "--run", sys.argv[4]])
"""

POINTS = {  # what is called, when, for which key; what is there then of EVALUATION, REPORT_TEXT, REPORT_PAGE
    "an older evaluation is removed": (("delete", "after", layout.EVALUATION), (False, False, False)),
    "the evaluation is there, its pages are not": (("put_new", "after", layout.EVALUATION), (True, False, False)),
    "the figures are written, the report is not": (("put_new", "before", layout.REPORT_PAGE), (True, True, False)),
    "the report is there, its writer does not know": (("put_new", "after", layout.REPORT_PAGE), (True, True, True)),
}
KEYS = (layout.EVALUATION, layout.REPORT_TEXT, layout.REPORT_PAGE)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """An evaluated run with a detector."""
    folder = tmp_path_factory.mktemp("killed")
    settings = make_settings(folder, str(save_tiny_clip(folder / "clip")))
    made = make_run(settings)
    train(made, settings)
    assert main(["evaluate", "--run", made.uri]) == 0
    return made


def results(store: Store) -> dict[str, bytes]:
    return {key: store.get(key) for key in KEYS if store.exists(key)}


@pytest.mark.parametrize("point", POINTS)
def test_killed(store: Store, tmp_path: Path, point: str) -> None:
    undisturbed = results(store)
    assert set(undisturbed) == set(KEYS)
    for key in KEYS[1:]:
        store.delete(key)
    old = undisturbed[layout.EVALUATION].replace(b'"samples"', b'"some"')  # of other inputs: it is replaced
    store.delete(layout.EVALUATION)
    store.put_new(layout.EVALUATION, old)
    (call, left) = POINTS[point]
    threads = str(torch.get_num_threads())
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [sys.executable, "-c", _KILLED, *call, store.uri]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert tuple(store.exists(key) for key in KEYS) == left
    assert main(["evaluate", "--run", store.uri]) == 0
    assert results(store).keys() == undisturbed.keys()
    for key in KEYS[:2]:
        assert results(store)[key] == undisturbed[key], key
