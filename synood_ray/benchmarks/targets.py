"""A measured figure beside its target, and the table of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Target:
    """One line of a benchmark's table. at: whether the figure should be at least or at most the target."""

    what: str
    value: float
    target: float
    at: Literal["least", "most"] = "least"

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.at == "least" else self.value <= self.target

    def as_dict(self) -> dict:
        return {"what": self.what, "value": self.value, "target": self.target, "at": self.at, "met": self.met}


def print_targets(title: str, targets: list[Target]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "measured", "target", "", title=title)
    for target in targets:
        sign = "≥" if target.at == "least" else "≤"
        table.add_row(
            target.what, f"{target.value:.3f}", f"{sign} {target.target:g}", "met" if target.met else "MISSED"
        )
    Console().print(table)
