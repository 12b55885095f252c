"""What a worker tells the driver about a unit: small records only; images go to the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from synood_ray import used
from synood_ray.errors import UserError
from synood_ray.records import SampleRow

NAMES, BOXES = "names", "boxes"
"""What a describer may be asked to propose (`sampling.proposals`)."""

ENOUGH_CHECKS = 16
"""Semantic checks of which a describer that is any good can tell at least half."""


@dataclass(frozen=True, slots=True)
class UnitReport:
    """One unit done. seconds: wall time by stage, summed over the unit's samples where they overlap.

    found: somebody else committed the unit first; what this worker did of it, if anything, is thrown away.
    checked: samples about which the describer was asked; untold: those where its answer was neither yes nor no.
    reasons: of the samples that were not accepted, how many for which; rounds, margins: of those that have an image.
    proposals: what the describer was asked for besides -> how often nothing of its answer could be used, and how often
    it was asked.
    denoiser_calls: of the worker since its last report, whosever units they were for. stored: bytes of the file.
    used: what its process has used since its last report (`synood_ray.used`).
    """

    unit: int
    samples: int
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    found: bool = False
    checked: int = 0
    untold: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    rounds: tuple[int, ...] = ()
    margins: tuple[float, ...] = ()
    denoiser_calls: int = 0
    stored: int = 0
    proposals: dict[str, tuple[int, int]] = field(default_factory=dict)
    used: used.Used = field(default_factory=dict)

    def __str__(self) -> str:
        """A line for the worker's log."""
        if self.found:
            return f"{self.samples} samples, in the store already"
        kinds = ", ".join(f"{n} {kind}" for kind in ("accepted", "rejected", "failed") if (n := getattr(self, kind)))
        times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in self.seconds.items())
        return f"{self.samples} samples{': ' * bool(kinds)}{kinds} ({times})"


def reasons(rows: Iterable[SampleRow]) -> dict[str, int]:
    """How many samples were not accepted for which reason; all errors are one: "error"."""
    return dict(Counter(row.reject_reason.partition(":")[0] for row in rows if not row.accepted))


@dataclass
class Totals:
    """What a driver's own workers have committed; seconds: worker seconds by stage."""

    described: int = 0
    units: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    checked: int = 0
    untold: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    proposals: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, report: UnitReport, sampled: bool) -> None:
        """Count a unit: its samples, or (not sampled) its prompts."""
        for stage, value in report.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + value
        for what, (lacking, asked) in report.proposals.items():
            before = self.proposals.get(what, (0, 0))
            self.proposals[what] = before[0] + lacking, before[1] + asked
        if not sampled:
            self.described += 1
            return
        self.units += 1
        self.accepted += report.accepted
        self.rejected += report.rejected
        self.failed += report.failed
        self.checked += report.checked
        self.untold += report.untold

    def judge_checks(self) -> None:
        """Raise UserError if most semantic checks so far could not be told: they pass everything."""
        if self.checked >= ENOUGH_CHECKS and 2 * self.untold > self.checked:
            raise UserError(
                f"sampling.mllm_check: of {self.checked} answers of the describer {self.untold} were neither yes nor "
                "no; take another describer, or set it to false to resume without this check"
            )
