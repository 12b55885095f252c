"""Names of everything in a run, and what they mean. A unit's names depend on its number alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Stage = Literal["prompts", "parts"]
"""The two stages of synthesis, named like their folders: context prompts, then samples."""

RUN = "run.json"
CALIBRATION = "calibration.json"
ID_MANIFEST = "id-manifest.parquet"
CALIBRATION_MANIFEST = "calibration-manifest.parquet"
NEGATIVES = "negatives.safetensors"
SCORE = "score.safetensors"
"""What the scorer's score learned from the ID images, for those that do."""
RELATIVES = "relatives.json"
"""What the ID classes are related to, for the prompt policies."""
SKIPS = "skips.json"
PUBLICATION = "publication.json"
MANIFEST = "manifest.json"
CARD = "README.md"
EVALUATION = "evaluation.json"

PREPARED = frozenset((RUN, CALIBRATION, ID_MANIFEST, CALIBRATION_MANIFEST, NEGATIVES, SCORE, RELATIVES, SKIPS))
"""What a run has before its first sample is described or made, beside features."""

PROMPTS = "prompts/"
PARTS = "parts/"
ERRORS = "errors/"
DATA = "data/"
DETECTOR = "detector/"
FEATURES = "features/"
"""CLIP features of the run's images, kept for whoever needs them again."""
REPORT = "report/"
PAGE = "index.html"
REPORT_PAGE = f"{REPORT}{PAGE}"
REPORT_TEXT = f"{REPORT}evaluation.md"
"""The figures of the evaluation as Markdown."""
REPORT_BOARD = f"{REPORT}openood.csv"
"""What the OpenOOD board asks for."""
TIMINGS = "timings/"
RATES = f"{TIMINGS}rates.json"
"""Seconds that one worker took for a sample, by stage: what a forecast goes by."""
RETRIES = "retries/"
RERUNS = "reruns/"
"""Which samples each ``--rerun`` draws anew."""
DAMAGED = "damaged/"

_PROMPTS_KEY = re.compile(r"prompts/part-(\d{6,})(?:-r(\d+))?\.parquet")
_PART_KEY = re.compile(r"parts/part-(\d{6,})(?:-r(\d+))?\.parquet")
_SHARD_KEY = re.compile(r"data/train-\d{5,}-of-\d{5,}\.parquet")
_PUBLICATION_KEY = re.compile(r"publication(?:-(\d{6,}))?\.json")
_RERUN_KEY = re.compile(r"reruns/(\d{6,})\.json")
_ERROR_KEY = re.compile(r"errors/(prompts|part)-(\d{6,})-a(\d+)(-final)?\.json")


@dataclass(frozen=True, slots=True)
class ErrorName:
    """What the name of an error file says. final: the unit was quarantined after this attempt."""

    stage: Stage
    unit: int
    attempt: int
    final: bool


def prompts_key(unit: int, retry: int = 0) -> str:
    """Context prompts of one unit; retry n >= 1 holds new ones of its samples whose prompts had failed until then."""
    return f"{PROMPTS}part-{unit:06d}{f'-r{retry}' if retry else ''}.parquet"


def part_key(unit: int, retry: int = 0) -> str:
    """Samples of one unit; retry n >= 1 holds new tries of samples that failed, or are drawn anew."""
    return f"{PARTS}part-{unit:06d}{f'-r{retry}' if retry else ''}.parquet"


def error_key(stage: Stage, unit: int, attempt: int, final: bool = False) -> str:
    """The record of one failed attempt (counted from 1) at a unit."""
    name = "part" if stage == "parts" else stage
    return f"{ERRORS}{name}-{unit:06d}-a{attempt}{'-final' if final else ''}.json"


def shard_key(index: int, total: int) -> str:
    """Published shard index in [0, total)."""
    return f"{DATA}train-{index:05d}-of-{total:05d}.parquet"


def is_shard(key: str) -> bool:
    """Whether this is a name that `shard_key` gives."""
    return bool(_SHARD_KEY.fullmatch(key))


def publication_key(number: int) -> str:
    """What goes into the publication of this number (counted from 0)."""
    return f"publication-{number:06d}.json" if number else PUBLICATION


def publication_number(key: str) -> int | None:
    """Number of a publication; None for any other name."""
    match = _PUBLICATION_KEY.fullmatch(key)
    return int(match[1] or 0) if match else None


def damaged_key(key: str, number: int) -> str:
    """Where a damaged part or prompts file is kept; number: of others of that name there before it."""
    name = key.removeprefix(PARTS).replace("/", "-")
    return f"{DAMAGED}{name}" if not number else f"{DAMAGED}{number}-{name}"


def retries_key(number: int) -> str:
    """The retries that one call of ``--retry-failed`` has announced (counted from 1)."""
    return f"{RETRIES}{number:06d}.json"


def rerun_key(number: int) -> str:
    """What one ``--rerun`` draws anew (counted from 1)."""
    return f"{RERUNS}{number:06d}.json"


def rerun_number(key: str) -> int | None:
    """Number of a rerun; None for any other name."""
    match = _RERUN_KEY.fullmatch(key)
    return int(match[1]) if match else None


def prompts_unit(key: str) -> tuple[int, int] | None:
    """(unit, retry) of a prompts file; None for any other name."""
    match = _PROMPTS_KEY.fullmatch(key)
    return (int(match[1]), int(match[2] or 0)) if match else None


def part_unit(key: str) -> tuple[int, int] | None:
    """(unit, retry) of a part; None for any other name."""
    match = _PART_KEY.fullmatch(key)
    return (int(match[1]), int(match[2] or 0)) if match else None


def parse_error(key: str) -> ErrorName | None:
    """What an error file's name says; None for any other name."""
    match = _ERROR_KEY.fullmatch(key)
    if not match:
        return None
    return ErrorName("parts" if match[1] == "part" else "prompts", int(match[2]), int(match[3]), bool(match[4]))
