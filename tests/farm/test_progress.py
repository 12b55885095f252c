"""How far the run is, for people: samples, rates and time left, at every width, by the clock."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from synood_ray import waits
from synood_ray.farm import progress
from synood_ray.farm.bars import Bars
from synood_ray.farm.observers import ActorCounts, Portion, Snapshot, StageName, Tick
from synood_ray.farm.progress import Pace, Progress, Rate, duration
from synood_ray.farm.queue import Counts
from synood_ray.farm.reports import Totals


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def tick(
    sampled: int,
    described: int,
    samples: int = 200,
    *,
    accepted: int = 0,
    lines: tuple[str, ...] = (),
    run: Portion | None = None,
) -> Tick:
    done: dict[StageName, int] = {"sample": sampled, "describe": described}
    units = {name: Counts(25 - count, 0, count, 0, 0) for name, count in done.items()}
    made = {name: Portion(min(8 * count, samples), samples) for name, count in done.items()}
    actors = {"sampler": ActorCounts(ready=2), "describer": ActorCounts(starting=1), "scorer": ActorCounts()}
    return Tick(Snapshot(units, Totals(accepted=accepted), actors, made, run, lines))


def test_samples_with_rate_and_time_left_every_so_many_seconds(clock: Clock) -> None:
    said: list[str] = []
    shown = Progress(10.0, said.append)
    for second in range(1, 31):
        clock.now = 100.0 + second
        shown(tick(second // 2, min(second, 25), 190, accepted=second))
    assert said == [
        "samples 40/190, 4/s, about 0:38 left · described 80/190, 8/s, about 0:14 left · "
        "10 accepted, 0 rejected, 0 failed · 2 samplers, 0 describers, 1 loading models",
        "samples 80/190, 4/s, about 0:28 left · described 160/190, 8/s, about 0:04 left · "
        "20 accepted, 0 rejected, 0 failed · 2 samplers, 0 describers, 1 loading models",
        "samples 120/190, 4/s, about 0:18 left · "
        "30 accepted, 0 rejected, 0 failed · 2 samplers, 0 describers, 1 loading models",
    ]


def test_totals_are_those_of_the_run(clock: Clock) -> None:
    shown = Progress(10.0, print, earlier=lambda: {"accepted": 30, "rejected": 2, "failed": 0})
    shown(tick(5, 25, accepted=7))
    assert "7 accepted, 0 rejected, 0 failed since the start of this call" in shown.line()
    shown._count_earlier()
    assert "samples 40/200 · 37 accepted, 2 rejected, 0 failed · " in shown.line()


def test_of_what_is_run_again_that_and_the_run(clock: Clock) -> None:
    shown = Progress(10.0, print)
    shown(tick(1, 3, 12, accepted=5, run=Portion(1_996, 2_000)))
    assert shown.line() == (
        "samples run again 8/12 · 5 accepted, 0 rejected, 0 failed · "
        "2 samplers, 0 describers, 1 loading models · 1,996/2,000 of the run sampled"
    )


def test_the_rate_is_that_of_the_last_minutes() -> None:
    rate = Rate()
    for second in range(0, 1001, 10):
        pace = rate.pace(second, second // 10 if second < 500 else 50 + (second - 500), 2000)
    assert pace.rate == pytest.approx(1.0, rel=0.05) and pace.left == pytest.approx(1450, rel=0.05)
    stalled = rate.pace(1180, 550, 2000)
    assert stalled.rate is not None and stalled.rate < 0.7, "what stands still gets slower"


def test_what_is_waited_for_is_in_every_line_and_told_while_the_driver_is_held_up(clock: Clock) -> None:
    said: list[str] = []
    shown = Progress(10.0, said.append)
    shown(tick(0, 0, lines=("sampler: waiting for 1 GPU; no node has or will have it",)))
    assert shown.line().endswith("waiting: sampler: waiting for 1 GPU; no node has or will have it")
    waits.note("s3://runs/x", "HTTP 503")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waits, "AFTER", 0.0)
        patch.setattr(waits.current, "__defaults__", (0.0,))
        for _ in range(3):
            shown._tell_own_waits()
        clock.now += 11
        shown.look()
    waits.over("s3://runs/x")
    assert said[0] == "s3://runs/x has not answered for 0 s (HTTP 503)"
    assert len(said) == 2 and said[1].endswith("waiting: s3://runs/x has not answered for 0 s (HTTP 503)")


@pytest.mark.parametrize("width", [80, 120, 200])
def test_bars_at_every_width(width: int) -> None:
    drawn = io.StringIO()
    bars = Bars(["sampled", "described"], Console(file=drawn, width=width, force_terminal=True, color_system=None))
    paces = {"sampled": Pace(240, 1000, 3.2, 237.5), "described": Pace(1000, 1000)}
    bars.show(paces, ["150 accepted, 80 rejected, 10 failed", "16 samplers, 4 describers", "waiting: " + "x" * 30])
    bars.stop()
    lines = drawn.getvalue().split("\x1b")[-1].splitlines() + drawn.getvalue().splitlines()
    (sampled,) = {line.strip() for line in lines if "240/1,000" in line and "━" in line}
    assert "3.2/s" in sampled and "3:58" in sampled
    assert any("1,000/1,000" in line and "━" in line for line in lines)
    assert any("150 accepted, 80 rejected, 10 failed · 16 samplers" in line for line in lines)
    assert any("x" * 30 in line for line in lines)


def test_durations() -> None:
    assert [duration(s) for s in (9, 250, 7450, 3 * 86400 + 7440)] == ["0:09", "4:10", "2:04:10", "3 days 2:04"]
