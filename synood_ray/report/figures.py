"""What the report shows of an evaluation: headlines against the best of the other methods, tables, curves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from synood_ray.detection.methods import OURS
from synood_ray.detection.metrics import METRICS
from synood_ray.report.charts import Series, histogram, roc
from synood_ray.report.markdown import Section, methods_of, sections

BEFORE = "neglabel"
"""What score histograms show beside the run's own detector; the first method if that was not measured."""

_COLOURS = 8
"""Methods' colours in the page's style sheet, s-m1 to s-m8; the run's own detector has s-ours."""


def headlines(evaluation: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The headline metrics of every section: the best of the other methods, whichever that is, and this run's detector.

    Each: set, metric, name, best (name of that method), before (its value), after (None without a fine-tuned detector),
    better (None, or whether the detector is better than the best of the others), ahead (the paired difference between
    the two with its interval, None in older evaluations), sure (whether there is one, and it leaves 0 out), first
    (whether it speaks for all near or all far sets: their mean, or the only one), control (the best of the detector's
    own controls: name, value, ahead; None if none was measured).
    """
    found = []
    shown = sections(evaluation) if evaluation else []
    averaged = {section.title.partition(",")[0] for section in shown if section.images is None}
    for section in shown:
        others = {method: values for method, values in section.values.items() if not _is_ours(method)}
        for metric, about in METRICS.items():
            known = {method: values[metric] for method, values in others.items() if metric in values}
            if not about.headline or not known:  # an older evaluation knows fewer metrics
                continue
            best = (max if about.higher_is_better else min)(known, key=lambda method: known[method])
            control = _best_control(section, metric)
            before, after = known[best], section.values.get(OURS, {}).get(metric)
            ahead = section.differences.get(best, {}).get(metric)
            found.append(
                {"set": section.title, "metric": metric, "name": about.title, "best": best}
                | {"before": before, "after": after, "ahead": ahead, "control": control}
                | {"better": None if after is None else (after > before) == about.higher_is_better and after != before}
                | {"sure": bool(ahead and (ahead[1] > 0 or ahead[2] < 0))}
                | {"first": section.images is None or section.title.partition("/")[0] not in averaged}
            )
    return found


def _best_control(section: Section, metric: str) -> dict[str, Any] | None:
    """The best of the run's own detector's ablations and controls by one metric."""
    known = {name: row[metric] for name, row in section.values.items() if _is_ours(name) and name != OURS}
    if not known:
        return None
    best = (max if METRICS[metric].higher_is_better else min)(known, key=lambda name: known[name])
    ahead = section.differences.get(best, {}).get(metric)
    return {"name": best.removeprefix(f"{OURS}_"), "value": known[best], "ahead": ahead}


def _is_ours(method: str) -> bool:
    """Whether it is this run's detector, or one of its ablations and controls, which are no methods of others."""
    return method == OURS or method.startswith(f"{OURS}_")


def methods(evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every method in the order of tables: its name, what it is, and the CSS class of its colour."""
    colours = (f"s-m{1 + i % _COLOURS}" for i in itertools.count())
    return [
        method | {"css": "s-ours" if method["name"] == OURS else next(colours)} for method in methods_of(evaluation)
    ]


def _before(evaluation: Mapping[str, Any]) -> str:
    return BEFORE if BEFORE in evaluation["id"] else str(methods(evaluation)[0]["name"])


def set_section(section: Section, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of one test set, or of the means of several: table rows, and a set's charts."""
    values = section.values
    curves = evaluation["curves"].get(section.title)
    listed = methods(evaluation)
    metrics = [metric for metric in METRICS if all(metric in row for row in values.values())]
    best = {
        metric: (max if METRICS[metric].higher_is_better else min)(row[metric] for row in values.values())
        for metric in metrics
    }
    shown = {"section": section, "metrics": metrics, "best": best, "images": evaluation["images"].get(section.title)}
    if curves is None:
        return shown
    before = _before(evaluation)
    after = OURS if OURS in values else before
    lines = [Series(method["name"], method["css"], curves[method["name"]]["roc"]) for method in listed]
    histograms = [(method, _score_chart(curves[method]["histogram"])) for method in dict.fromkeys((before, after))]
    return shown | {"roc": roc(lines), "histograms": histograms}


def _score_chart(curve: Mapping[str, Sequence[float]]) -> Markup:
    series = [Series("ID", "s-id", curve["id"]), Series("OOD", "s-ood", curve["ood"])]
    return histogram(curve["edges"], series, "score, ID standard deviations from the ID mean")
