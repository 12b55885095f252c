"""What the detector benchmark makes of its draws: means, the best baseline, paired leads, targets."""

import numpy as np
import pytest

from benchmarks.detector import FROZEN, METRICS, OURS, PAPER, Drawn, Total, _ahead, _as_json, targets
from benchmarks.regimes import REGIMES, SETS
from benchmarks.teaching.methods import ID_ONLY

AREAS = {
    (FROZEN, "mcm"): 0.80,
    (FROZEN, PAPER): 0.70,
    (FROZEN, "fused"): 0.99,  # ours, no baseline
    ("official", PAPER): 0.83,
    (ID_ONLY, "fused"): 0.94,
    (OURS, "fused"): 0.95,
}


def drawn(area: float, spread: float) -> Drawn:
    """Draws that are 2 * spread wide, the same way for whatever is compared."""
    shape = np.concatenate([[0.0], np.linspace(-spread, spread, 101)])
    return {"auroc": area + shape, "fpr95_id_positive": 1 - area + shape}


def total() -> Total:
    made = Total({}, {})
    for row, area in AREAS.items():
        for head in (-0.02, 0.02):  # two heads, whose mean is the area
            for where in SETS:
                made.add({(where, *row, metric): each for metric, each in drawn(area + head, 0.1).items()})
    return made


def test_leads_are_paired_and_over_the_best_baseline() -> None:
    rows = total().means()["near"]
    found = _ahead(rows, "fused")
    assert found["best baseline"]["row"] == f"official, {PAPER}"
    lead = found["best baseline"]["auroc"]
    assert [lead[name] for name in ("value", "low", "high")] == pytest.approx([0.12] * 3)  # the draws cancel
    assert found["NegLabel"]["auroc"]["value"] == pytest.approx(0.25)
    assert found["ID images only"]["fpr95_id_positive"]["value"] == pytest.approx(-0.01)
    span = _as_json(rows)[OURS]["fused"]["auroc"]
    assert span == pytest.approx({"value": 0.95, "low": 0.855, "high": 1.045})
    assert set(found["NegLabel"]) == {"row", *METRICS}


def test_targets_are_the_issues() -> None:
    means = total().means()
    found = {
        "rows": {name: {where: _as_json(rows) for where, rows in means.items()} for name in REGIMES},
        "ahead": {name: {where: _ahead(rows, "fused") for where, rows in means.items()} for name in REGIMES},
    }
    listed = {target.what: target for target in targets(found, "fused")}
    assert listed["same drawings: near AUROC"].met and not listed["sibling drawings: far AUROC"].met
    assert listed[f"new family: near over official, {PAPER}"].target == -0.5
    assert listed["same drawings: near FPR95 over frozen NegLabel"].value == pytest.approx(-25)
    assert len(listed) == 13
