"""The teaching benchmark's figures as printed tables, in percentage points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.teaching.methods import ID_ONLY

PAPER = "neglabel"


def show(found: dict[str, Any], shipped: str) -> dict[str, Any]:
    """Print what `benchmarks.teaching.benchmark` found. shipped: the detector's default score."""
    from rich.console import Console

    console = Console(width=150)
    methods = found["methods"]
    for split in next(iter(methods.values())):
        console.print(_gains(methods, split, dict.fromkeys((PAPER, shipped)), found["chosen"]))
        console.print(_scores(methods, split))
    console.print(_images(found))
    console.print(f"best policy on validation, by {PAPER}: {found['chosen']}")
    console.print(f"the test sets have been read {found['test_reads']} times (benchmarks/teaching/test_reads.tsv)")
    return found


def _gains(methods: Mapping[str, Any], split: str, scores: Mapping[str, None], chosen: str) -> Any:
    from rich.table import Table

    title = f"{split}, near half B: gain over {ID_ONLY} in points [95 %], mean of heads and seeds"
    table = Table("fine-tuned on", title=title)
    for score in scores:
        for column in (f"{score} AUROC", "FPR95 ID / OOD pos.", "of oracle", "over mixup", "far", "artefacts, %"):
            table.add_column(column)
    table.add_column("ID accuracy")
    for method, splits in methods.items():
        cells = []
        for score in scores:
            row = splits[split][score]
            base = methods[ID_ONLY][split][score]
            if method == ID_ONLY:
                near = row["near"]
                rates = " / ".join(f"{100 * near[name]:.1f}" for name in ("fpr95_id_positive", "fpr95_ood_positive"))
                cells += [f"is {100 * near['auroc']:.2f}", f"is {rates}", "", "", f"is {100 * row['far']['auroc']:.2f}"]
            else:
                gains = row["gain"]
                rates = " / ".join(
                    f"{100 * gains[name]['value']:+.1f}" for name in ("fpr95_id_positive", "fpr95_ood_positive")
                )
                cells += [_span(gains["auroc"]), rates, f"{row['share_of_oracle']:.2f}", _span(row["over_mixup"])]
                cells += [f"{100 * (row['far']['auroc'] - base['far']['auroc']):+.2f}"]
            cells += [f"{100 * row['artefacts']:.1f}"]
        gained = splits[split][PAPER]["accuracy"] - methods[ID_ONLY][split][PAPER]["accuracy"]
        cells += [f"{100 * gained:+.1f}" if method != ID_ONLY else f"is {100 * splits[split][PAPER]['accuracy']:.1f}"]
        table.add_row(f"{method} *" if method == chosen else method, *cells)
    return table


def _scores(methods: Mapping[str, Any], split: str) -> Any:
    from rich.table import Table

    names = list(methods[ID_ONLY][split])
    table = Table("fine-tuned on", *names, title=f"{split}, near half B: gain in AUROC by every score, points")
    for method, splits in methods.items():
        cells = (splits[split][name] for name in names)
        table.add_row(method, *(_plain(row, method == ID_ONLY) for row in cells))
    return table


def _plain(row: Mapping[str, Any], is_base: bool) -> str:
    return f"is {100 * row['near']['auroc']:.2f}" if is_base else f"{100 * row['gain']['auroc']['value']:+.2f}"


def _span(figures: Mapping[str, float]) -> str:
    value, low, high = (100 * figures[name] for name in ("value", "low", "high"))
    return f"{value:+.2f} [{low:.2f}, {high:.2f}]"


def _images(found: Mapping[str, Any]) -> Any:
    from rich.table import Table

    columns = (
        "kept",
        "denoiser calls each",
        "core-s each",
        "points per core-min",
        "structure",
        "sure ID",
        "margins",
    )
    table = Table("images", *columns, title="sets of images; points: AUROC gained by NegLabel on validation")
    for name, one in found["images"].items():
        measured = "core_minutes" in one
        method = found["methods"].get(name)
        points = ""
        if measured and method is not None:
            gained = 100 * method["validation"][PAPER]["gain"]["auroc"]["value"]
            points = f"{gained / max(one['core_minutes'], 1e-9):.2f}"
        table.add_row(
            name,
            f"{one['kept']} of {one['tried']}" if measured else str(one["kept"]),
            f"{one['denoiser_calls_per_image']:.1f}" if measured else "",
            f"{one['core_seconds_per_image']:.3f}" if measured else "",
            points,
            f"{one['structure']:.2f}" if "structure" in one else "",
            f"{one['sure_of_an_id_name']:.3f}" if "structure" in one else "",
            " / ".join(f"{margin:.2f}" for margin in one["margins"]) if one.get("margins") else "",
        )
    return table
