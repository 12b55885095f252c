"""An evaluation as tables of text: every method on every set, its intervals, and how far ours is ahead of it.

The same rows go to the terminal (`synood_ray.report.table`) and, with all metrics, into report/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synood_ray.detection.blind import PLACES
from synood_ray.detection.methods import OURS
from synood_ray.detection.metrics import METRICS, Metric


@dataclass(frozen=True)
class Section:
    """The figures of one test set, or the means over the near or far ones; as `synood_ray.detection.evaluate` has them.

    images: how many OOD images, None for means.
    """

    title: str
    images: int | None
    values: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, Sequence[float]]]
    differences: Mapping[str, Mapping[str, Sequence[float]]]

    def figure(self, method: str, metric: str) -> str:
        """A value in percent with its interval, as in "94.2 [92.2, 96.0]"."""
        value = f"{100 * self.values[method][metric]:.1f}"
        ends = self.intervals.get(method, {}).get(metric)
        return f"{value} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if ends else value

    def ahead(self, method: str, metric: str) -> str:
        """`OURS` minus that method in points, with the interval of the paired difference; "" where there is none."""
        found = self.differences.get(method, {}).get(metric)
        if not found:
            return ""
        value, low, high = (round(100 * share, 1) + 0.0 for share in found)  # + 0.0: no minus before a zero
        return f"{value:+.1f} [{low:.1f}, {high:.1f}]"


def sections(evaluation: Mapping[str, Any]) -> list[Section]:
    """Near before far; the means of a group before its sets, where it has several. Older evaluations have fewer."""
    found = []
    differences = evaluation.get("differences", {})
    for group in ("near", "far"):
        its = sorted(where for where in evaluation["sets"] if where.startswith(f"{group}/"))
        mean = evaluation.get("means", {}).get(group)
        if mean and len(its) > 1:
            title = f"{group}, mean of {len(its)} sets"
            found.append(Section(title, None, mean["values"], mean["intervals"], mean["differences"]))
        for where in its:
            images = evaluation["images"][where]["used"]
            own = evaluation["intervals"].get(where, {}), differences.get(where, {})
            found.append(Section(where, images, evaluation["sets"][where], *own))
    return found


def methods_of(evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """Name and what it is of every method, in the order of tables. Older evaluations only have the names."""
    return evaluation.get("methods") or [{"name": name, "what": ""} for name in evaluation["id"]]


def method_names(evaluation: Mapping[str, Any]) -> list[str]:
    """In the order of tables."""
    return [method["name"] for method in methods_of(evaluation)]


def as_markdown(evaluation: Mapping[str, Any], title: str) -> str:
    """The whole evaluation as a page of Markdown; title: the run's name."""
    names = method_names(evaluation)
    about = (
        "Percent; in brackets 95 % intervals over classes, of differences paired ones. ID accuracy is of the ID test."
    )
    lines = [f"# Evaluation of {title}", "", about]
    lines += [f"\n**Warning:** {warning}" for warning in evaluation.get("warnings", [])]
    for section in sections(evaluation):
        shown = {name: metric for name, metric in METRICS.items() if name in section.values[names[0]]}
        lines += ["", f"## {section.title}" + (f" ({section.images} images)" if section.images else ""), ""]
        lines += _table(evaluation, section, names, shown)
    lines += _shifted(evaluation, names) + _blind(evaluation)
    lines += ["", "## What the methods are", ""]
    lines += [f"- `{method['name']}`: {method['what']}" for method in evaluation.get("methods", [])]
    lines += ["", "## What the metrics are", ""]
    lines += [f"- {metric.title}: {metric.meaning}" for metric in METRICS.values()]
    if evaluation.get("notes"):
        lines += ["", "## Notes", "", *(f"- {note}" for note in evaluation["notes"])]
    return "\n".join(lines) + "\n"


def _table(
    evaluation: Mapping[str, Any], section: Section, names: Sequence[str], shown: Mapping[str, Metric]
) -> list[str]:
    heads = ["method", *(metric.title for metric in shown.values()), "ID accuracy"]
    if section.differences:
        heads += [f"{OURS} − it, {metric.title}" for metric in shown.values() if metric.headline]
    rows = [heads, ["---"] * len(heads)]
    for name in names:
        row = [f"**{name}**" if name == OURS else name, *(section.figure(name, metric) for metric in shown)]
        row.append(f"{100 * evaluation['id'][name]['accuracy']:.1f}")
        if section.differences:
            row += [section.ahead(name, metric) for metric, about in shown.items() if about.headline]
        rows.append(row)
    return [f"| {' | '.join(row)} |" for row in rows]


def _shifted(evaluation: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """ID images of another kind: accuracy, and the share kept at 95 % of the ID test."""
    lines = []
    for where, found in evaluation.get("shifted", {}).items():
        lines += ["", f"## {where} ({evaluation['images'][where]['used']} ID images of another kind)", ""]
        lines += ["| method | accuracy | kept at 95 % ID recall |", "| --- | --- | --- |"]
        lines += [
            f"| {name} | {100 * found[name]['accuracy']:.1f} | {100 * found[name]['kept']:.1f} |" for name in names
        ]
    return lines


def _blind(evaluation: Mapping[str, Any]) -> list[str]:
    """Which names of test classes the run has seen."""
    found = evaluation.get("blind")
    if not found:
        return []
    lines = ["", "## Names of test classes that the run has seen", ""]
    heads = ["set", "class names", *PLACES.values()]
    lines += [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for where, its in found.items():
        cells = [f"{len(its[place])}: {', '.join(its[place])}".removesuffix(": ") for place in PLACES]
        lines.append(f"| {' | '.join([where, str(its['classes']), *cells])} |")
    return lines
