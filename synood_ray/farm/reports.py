"""What a worker tells the driver about a unit: small records only; images go to the store."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UnitReport:
    """One unit done. seconds: wall time by stage, summed over the unit's samples where they overlap.

    found: somebody else committed the unit first; what this worker did of it, if anything, is thrown away.
    """

    unit: int
    samples: int
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    found: bool = False


@dataclass
class Totals:
    """What a driver's own workers have committed; seconds: worker seconds by stage."""

    described: int = 0
    units: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, report: UnitReport, sampled: bool) -> None:
        """Count a unit: its samples, or (not sampled) its prompts."""
        for stage, value in report.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + value
        if not sampled:
            self.described += 1
            return
        self.units += 1
        self.accepted += report.accepted
        self.rejected += report.rejected
        self.failed += report.failed
