"""What the report shows of an evaluation: headlines against the best of the other methods, tables, curves."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from synood_ray.detection.metrics import METRICS
from synood_ray.report.charts import Series, histogram, roc

BEFORE, AFTER = "neglabel", "synood"
"""What score histograms show beside the run's own detector, and that. Without BEFORE it is the first method."""

_COLOURS = 8
"""Methods' colours in the page's style sheet, s-m1 to s-m8; the run's own detector has s-ours."""


def headlines(evaluation: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The headline metrics of every set: the best of the other methods, whichever that is, and this run's detector.

    Each: set, metric, name, best (name of that method), before (its value), after (None without a fine-tuned detector),
    better (None, or whether the detector is better than the best of the others).
    """
    if not evaluation:
        return []
    found = []
    for name in set_order(evaluation["sets"]):
        figures = evaluation["sets"][name]
        others = {method: values for method, values in figures.items() if not _is_ours(method)}
        for metric, about in METRICS.items():
            known = {method: values[metric] for method, values in others.items() if metric in values}
            if not about.headline or not known:  # an older evaluation knows fewer metrics
                continue
            best = (max if about.higher_is_better else min)(known, key=lambda method: known[method])
            before, after = known[best], figures.get(AFTER, {}).get(metric)
            better = None if after is None else (after > before) == about.higher_is_better and after != before
            found.append(
                {"set": name, "metric": metric, "name": about.title, "better": better}
                | {"best": best, "before": before, "after": after}
            )
    return found


def _is_ours(method: str) -> bool:
    """Whether it is this run's detector, or one of its ablations and controls, which are no methods of others."""
    return method == AFTER or method.startswith(f"{AFTER}_")


def methods(evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every method in the order of tables: its name, what it is, and the CSS class of its colour."""
    listed = evaluation.get("methods") or [{"name": name, "what": ""} for name in evaluation["id"]]
    colours = (f"s-m{1 + i % _COLOURS}" for i in itertools.count())
    return [method | {"css": "s-ours" if method["name"] == AFTER else next(colours)} for method in listed]


def _before(evaluation: Mapping[str, Any]) -> str:
    return BEFORE if BEFORE in evaluation["id"] else str(methods(evaluation)[0]["name"])


def set_order(names: Iterable[str]) -> list[str]:
    """Test sets as they are shown: near before far, then by name."""
    return sorted(names, key=lambda name: (not name.startswith("near/"), name))


def set_section(name: str, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of one test set: table rows and charts."""
    values, curves = evaluation["sets"][name], evaluation["curves"][name]
    intervals = evaluation["intervals"].get(name, {})
    listed = methods(evaluation)
    metrics = [metric for metric in METRICS if all(metric in row for row in values.values())]
    best = {
        metric: (max if METRICS[metric].higher_is_better else min)(row[metric] for row in values.values())
        for metric in metrics
    }
    before = _before(evaluation)
    after = AFTER if AFTER in values else before
    return {
        "name": name,
        "images": evaluation["images"][name],
        "values": values,
        "metrics": metrics,
        "intervals": intervals,
        "best": best,
        "roc": roc([Series(method["name"], method["css"], curves[method["name"]]["roc"]) for method in listed]),
        "histograms": [
            (method, _score_chart(curves[method]["histogram"])) for method in dict.fromkeys((before, after))
        ],
    }


def _score_chart(curve: Mapping[str, Sequence[float]]) -> Markup:
    series = [Series("ID", "s-id", curve["id"]), Series("OOD", "s-ood", curve["ood"])]
    return histogram(curve["edges"], series, "score, ID standard deviations from the ID mean")
