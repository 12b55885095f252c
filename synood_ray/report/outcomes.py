"""What became of a run's samples, in words and numbers: funnel, reasons, names, and what a reader should know first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from synood_ray.storage.progress import RunStatus

REASONS = {
    "rounds": "never came into the band within its rounds",
    "clip": "still shows its class or its partner's (CLIP)",
    "empty": "shows nothing where a thing was painted",
    "mllm": "still shows its class (multimodal LLM)",
    "duplicate": "nearly the same as another accepted one of its class",
}
"""Reject reason as rows have it -> what it means. Reasons that are not here are told as they are."""

_MOST_REASONS = 8
_MANY = 0.05


@dataclass(frozen=True)
class Bar:
    """One line of the funnel. share: of the samples planned. reason: as rows have it; "" of the funnel's own steps."""

    name: str
    count: int
    share: float
    reason: str = ""


def reason_names(reasons: Iterable[str]) -> dict[str, str]:
    """What each reason is called, where it has a name."""
    return {reason: REASONS[reason] for reason in sorted(set(reasons)) if reason in REASONS}


def funnel(planned: int, status: RunStatus, reasons: Sequence[str]) -> tuple[list[Bar], list[Bar]]:
    """Planned, made, accepted; and of those made that are not accepted, the most common reasons.

    reasons: of every sample, "" of the accepted.
    """
    made = status.accepted + status.rejected + status.failed
    steps = {"planned": planned, "made": made, "accepted": status.accepted}
    found = Counter(reason for reason in reasons if reason).most_common()
    lines = [Bar(REASONS.get(reason, reason), count, count / max(1, planned), reason) for reason, count in found]
    if len(lines) > _MOST_REASONS:
        rest = lines[_MOST_REASONS:]
        lines = lines[:_MOST_REASONS]
        lines.append(Bar(f"{len(rest)} other reasons", sum(b.count for b in rest), sum(b.share for b in rest)))
    return [Bar(name, count, count / max(1, planned)) for name, count in steps.items()], lines


def painted(policy: str, names: Sequence[str], weight: float) -> str:
    """What a sample was to show, as people say it: "half duck, half owl". "" where its policy names nothing.

    weight: the second name's share, 0 where there is one.
    """
    if not names:
        return ""
    if len(names) == 1:
        return names[0]
    if policy == "switch":
        return ", then ".join(names)
    if len(names) > 2 or not weight:
        return " and ".join(names)
    first, second = names
    if abs(weight - 0.5) < 0.005:
        return f"half {first}, half {second}"
    return f"{100 * (1 - weight):.0f} % {first}, {100 * weight:.0f} % {second}"


def run_warnings(status: RunStatus) -> list[str]:
    """What a reader should know before the figures, a sentence each."""
    told = []
    made = status.accepted + status.rejected + status.failed
    if status.quarantined:
        told.append(
            f"{status.quarantined} of {status.planned} units were given up (quarantined): errors/ in the run says why, "
            "--retry-failed tries them again"
        )
    if status.failed > _MANY * made:
        told.append(
            f"{status.failed} of {made} samples failed: see their reasons below, --retry-failed tries them again"
        )
    if made and status.accepted < 0.5 * made:
        told.append(f"only {status.accepted} of {made} samples were accepted: the funnel has the reasons")
    return told
