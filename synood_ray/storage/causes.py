"""Why attempts failed, grouped by cause, each with its cure. Read from the records in ``errors/``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

CURES: dict[str, str] = {
    r"out of memory|OutOfMemory|CUDA error|CUBLAS": "lower sampling.batch_size or describer.batch_size, or take a GPU "
    "with more memory",
    r"lost too often|ActorDied|ActorUnavailable|RayActorError": "see the nodes' memory and logs; fewer workers a node",
    r"no answer within farm\.unit_deadline": "raise farm.unit_deadline, or lower farm.unit_size",
    r"its prompts failed": "see what the describe stage says of these units",
    r"has given no answer|cannot be reached|does not answer|Unavailable": "start the server or the store again; the "
    "same command resumes",
    r"cannot be read|is gone|No such file|FileNotFound": "bring the images back to where they were",
    r"access denied|credentials": "renew the credentials of the workers",
    r"disk|quota|No space": "free some space",
}
"""What an error says (regular expression) -> what to do. The first that is found."""
OTHER = "see errors/ for the traceback; --retry-failed runs given-up units again"


@dataclass(frozen=True, slots=True)
class Cause:
    """error: one failure's last line, numbers and quotes left out; count: attempts that ended so."""

    error: str
    count: int
    cure: str

    def __str__(self) -> str:
        return f"{self.count} x {self.error}: {self.cure}"


def causes(errors: Iterable[str]) -> list[Cause]:
    """The causes of errors (one line, or a traceback), the most frequent first."""
    counts = Counter(_kind(error) for error in errors)
    return [Cause(kind, count, cure_of(kind)) for kind, count in counts.most_common()]


def cure_of(error: str) -> str:
    """What to do about an error."""
    return next((cure for pattern, cure in CURES.items() if re.search(pattern, error)), OTHER)


def _kind(error: str) -> str:
    """What errors of one cause have in common: the last line of a traceback, without what tells one from another."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    last = lines[-1] if lines else "no words"
    last = re.sub(r"'[^']*'|\"[^\"]*\"", "…", last)
    return re.sub(r"\d+", "N", last)[:160]
