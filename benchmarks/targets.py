"""A measured figure beside its target, and the table of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.comparison import Interval


@dataclass(frozen=True, slots=True)
class Target:
    """One line of a benchmark's table. at: whether the figure should be at least or at most the target.

    interval: the figure's 95 % interval, where there is one.
    """

    what: str
    value: float
    target: float
    at: Literal["least", "most"] = "least"
    interval: Interval | None = None

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.at == "least" else self.value <= self.target

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"met": self.met}


def show_figure(value: float, interval: Interval | None) -> str:
    """As in 0.981 [0.965, 0.993]."""
    return f"{value:.4g}" if interval is None else f"{value:.4g} [{interval[0]:.4g}, {interval[1]:.4g}]"


def print_targets(title: str, targets: list[Target]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "measured [95 %]", "target", "", title=title)
    for target in targets:
        sign = "≥" if target.at == "least" else "≤"
        measured = show_figure(target.value, target.interval)
        table.add_row(target.what, measured, f"{sign} {target.target:g}", "met" if target.met else "MISSED")
    Console().print(table)
