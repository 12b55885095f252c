"""A run watched from its store: state, rate over the last minutes, outcomes, causes of errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synood_ray.cli.main import main
from synood_ray.cli.watch import page, watch
from synood_ray.config.settings import Settings
from synood_ray.storage import layout
from synood_ray.storage.causes import causes
from synood_ray.storage.publication import announce_retries
from synood_ray.storage.stores import open_store
from synood_ray.storage.watch import Watch
from tests.farm.local_ray import make_images, use_local_ray
from tests.farm.stubs import stub_actors

NOW = 2_000_000_000.0


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published run of 3 units of 4 samples; unit 1 needed two attempts and unit 2 is given up."""
    from synood_ray.pipeline import synthesize

    use_local_ray(monkeypatch)
    folder = tmp_path / "run"
    data = {"uri": str(make_images(tmp_path / "images", 10)), "per_class": 100}
    settings = Settings.model_validate({"data": data, "output": str(folder), "limit": 12, "farm": {"unit_size": 4}})
    synthesize(settings, lambda line: None, actors=stub_actors("once-1 error-2 bad-3"))
    return folder


def as_if_running(run: Path, *ages: float) -> None:
    """Not published yet; the parts were written so many seconds ago, everything else an hour before."""
    (run / "manifest.json").unlink()
    for publication in run.glob("publication*"):
        publication.unlink()
    for path in run.rglob("*"):
        os.utime(path, (NOW - 7200, NOW - 7200))
    for path, age in zip(sorted((run / "parts").iterdir()), ages, strict=True):
        os.utime(path, (NOW - age, NOW - age))


def test_a_published_run(run: Path) -> None:
    picture = Watch(open_store(str(run))).look(NOW)
    assert picture.state == "published" and picture.left is None
    assert (picture.planned, picture.sampled, picture.accepted, picture.failed) == (12, 8, 7, 1)
    assert picture.quarantined == 1


def test_one_that_runs_and_one_that_has_stopped(run: Path) -> None:
    as_if_running(run, 400, 100)
    store = open_store(str(run))
    running = Watch(store).look(NOW)
    assert running.state == "running" and running.latest == pytest.approx(100)
    assert running.rate == pytest.approx(4 / 300) and running.left == pytest.approx(300)
    assert (running.sampled, running.described, running.accepted, running.read) == (8, 12, 7, (2, 2))
    stopped = Watch(store).look(NOW + 5000)
    assert stopped.state.startswith("stopped") and not stopped.rate and stopped.left is None
    lines = page(running, "runs/x")
    assert lines[0] == "runs/x: running"
    assert lines[2].endswith("8/12, 0.0133/s in the last minutes, about 5:00 left")
    assert "latest object: 1:40 ago" in lines and any("unit N does not work" in line for line in lines)


def test_what_is_run_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Announced, of the unit that is given up nothing: it has no part to be followed by a retry."""
    store = open_store(str(run))
    announce_retries(store, {0: (1, 1), 1: (1, 4)})
    begun = Watch(store).look(NOW)
    assert begun.state == "published; 5 of 5 samples to be run again" and begun.again == (5, 0)
    (run / layout.part_key(1, 1)).write_bytes((run / layout.part_key(1)).read_bytes())
    for path in run.rglob("*"):
        os.utime(path, (NOW - 7200, NOW - 7200))
    os.utime(run / layout.part_key(1, 1), (NOW - 60, NOW - 60))
    picture = Watch(store).look(NOW)
    assert (picture.state, picture.again, picture.rate) == ("running", (5, 4), pytest.approx(4 / 300))
    lines = page(picture, "runs/x")
    assert lines[2].endswith("8/12") and lines[3].startswith("run again ━")
    assert lines[3].endswith(" 4/5, 0.0133/s in the last minutes, about 6:15 left"), "and unit 2, which is given up"
    assert main(["status", "--run", str(run)]) == 0
    out = capsys.readouterr().out
    assert "running or stopped: 1 of 5 samples to be run again\n" in out
    assert "\nsamples run again\n  planned             5\n  made                4\n" in out


def test_what_is_known_is_not_read_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_if_running(run, 400, 100)
    store = open_store(str(run))
    watched, asked = Watch(store), list[str]()
    watched.look(NOW)
    get_range = store.get_range

    def spy(key: str, start: int, length: int) -> bytes:
        asked.append(key)
        return get_range(key, start, length)

    monkeypatch.setattr(store, "get_range", spy)
    watched.look(NOW)
    assert not asked
    (run / layout.part_key(2)).write_bytes((run / layout.part_key(1)).read_bytes())
    watched.look(NOW)
    assert asked == [layout.part_key(2)]


def test_lines_where_there_is_no_terminal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_if_running(run, 400, 100)
    watched, slept = Watch(open_store(str(run))), list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(watched, now=lambda: NOW, sleep=sleep)
    assert len(capsys.readouterr().out.splitlines()) == 1, "nothing has changed"
    assert slept == [5.0] * 3


def test_errors_of_one_cause_are_one_line_with_the_cure() -> None:
    found = causes(
        [
            "Traceback\n  File x\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 MiB",
            "Traceback\n  File y\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 512 MiB",
            "no answer within farm.unit_deadline = 1800.0 s",
            "ValueError: 'owl' is no class",
        ]
    )
    assert [(cause.count, cause.cure.partition(",")[0]) for cause in found] == [
        (2, "lower sampling.batch_size or describer.batch_size"),
        (1, "raise farm.unit_deadline"),
        (1, "see errors/ for the traceback; --retry-failed runs given-up units again"),
    ]
    assert found[2].error == "ValueError: … is no class"
