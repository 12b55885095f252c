"""What a worker tells the driver about a unit: small records only; images go to the store."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UnitReport:
    """One unit done. seconds: wall time by stage, summed over the unit's samples where they overlap."""

    unit: int
    samples: int
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
