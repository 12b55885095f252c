"""Words for what became of samples."""

from __future__ import annotations

import pytest

from synood_ray.report.outcomes import funnel, painted, run_warnings
from synood_ray.storage.progress import RunStatus

STATUS = RunStatus(10, 8, 0, 0, 2, accepted=40, rejected=50, failed=10, published=True, planned_samples=125)


@pytest.mark.parametrize(
    ("policy", "names", "weight", "told"),
    [
        ("context", [], 0.0, ""),
        ("neighbour", ["owl"], 0.0, "owl"),
        ("blend", ["duck", "owl"], 0.5, "half duck, half owl"),
        ("blend", ["duck", "owl"], 0.3, "70 % duck, 30 % owl"),
        ("switch", ["duck", "owl"], 0.67, "duck, then owl"),
        ("mine", ["duck", "owl", "hen"], 0.0, "duck and owl and hen"),
    ],
)
def test_what_was_painted(policy: str, names: list[str], weight: float, told: str) -> None:
    assert painted(policy, names, weight) == told


def test_the_funnel_counts_every_sample_once() -> None:
    reasons = [""] * 40 + ["rounds"] * 30 + ["clip"] * 20 + [f"error: {n}" for n in range(10)]
    steps, lost = funnel(125, STATUS, reasons)
    assert [(bar.name, bar.count, bar.share) for bar in steps] == [
        ("planned", 125, 1.0),
        ("made", 100, 0.8),
        ("accepted", 40, 0.32),
    ]
    assert lost[0].reason == "rounds" and lost[0].name.startswith("never came into the band")
    assert sum(bar.count for bar in lost) == 60 and lost[-1].name == "4 other reasons"


def test_what_a_reader_should_know() -> None:
    told = run_warnings(STATUS)
    assert len(told) == 3 and "2 of 10 units" in told[0] and "10 of 100 samples failed" in told[1]
    assert run_warnings(RunStatus(1, 1, 0, 0, 0, 95, 5, 0, True, 100)) == []
