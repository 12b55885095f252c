"""The short table that ends the demo: what was made, how long it took, what it brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from synood_ray.detection.methods import OURS
from synood_ray.report.figures import headlines
from synood_ray.report.markdown import Section, method_names, sections
from synood_ray.storage.progress import RunStatus


def print_summary(
    status: RunStatus,
    planned: int,
    seconds: Mapping[str, float],
    evaluation: Mapping[str, Any] | None,
    report: str,
    console: Console | None = None,
) -> None:
    """Print what was measured, the summary of a run, then the path of its report.

    planned: samples planned; seconds: wall time by stage, in order; evaluation: the contents of evaluation.json.
    """
    console = console or Console(highlight=False)
    for section in sections(evaluation) if evaluation else []:
        console.print(methods_table(section, method_names(evaluation or {})))
    console.print(summary_table(status, planned, seconds, evaluation))
    console.print(f"report: {report}", soft_wrap=True)


def methods_table(section: Section, names: Sequence[str]) -> Table:
    """A row per method: AUROC and FPR95 in both conventions, and how far ours is ahead, with intervals; in percent."""
    title = section.title + (f", {section.images} images" if section.images else "")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", overflow="fold")
    for head in ("AUROC", "FPR95, ID / OOD\npositive", *([f"{OURS} − it, AUROC"] if section.differences else [])):
        table.add_column(head, justify="right")
    for name in names:
        both = (f"{100 * section.values[name][f'fpr95_{which}_positive']:.1f}" for which in ("id", "ood"))
        ahead = [section.ahead(name, "auroc")] if section.differences else []
        style = "bold" if name == OURS else ""
        table.add_row(name, section.figure(name, "auroc"), " / ".join(both), *ahead, style=style)
    return table


def summary_table(
    status: RunStatus, planned: int, seconds: Mapping[str, float], evaluation: Mapping[str, Any] | None
) -> Table:
    """Three blocks of rows: samples; seconds by stage; AUROC and FPR95 in percent, of the best other method
    and of this run's detector; below them its artefact measure, if there is one."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_column(justify="right")
    table.add_row("samples", "planned", str(planned))
    for name in ("accepted", "rejected", "failed"):
        table.add_row("", name, str(getattr(status, name)), end_section=name == "failed")
    stages = list(seconds.items())
    for number, (stage, spent) in enumerate(stages):
        table.add_row("" if number else "seconds", stage, f"{spent:.1f}", end_section=number == len(stages) - 1)
    for number, found in enumerate(headlines(evaluation)):
        before, after = f"{found['best']} {100 * found['before']:.1f}", found["after"]
        colour = ("green" if found["better"] else "red") if found["sure"] else "default"
        value = before if after is None else f"{before} → [{colour}]{100 * after:.1f}[/{colour}]"
        table.add_row("" if number else "detection, %", f"{found['set']} {found['name']}", value)
    artefacts = (evaluation or {}).get("artefacts")
    if artefacts and OURS in artefacts["called_ood"]:
        table.add_row("artefacts, %", "regenerated ID images called OOD", f"{100 * artefacts['called_ood'][OURS]:.1f}")
    return table
