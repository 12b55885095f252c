"""The two records that flow through synood_ray: the task through the farm, the sample row through storage."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

Box = tuple[int, int, int, int]
"""Subject box (x0, y0, x1, y1) in pixels of the source image, x1 and y1 exclusive."""


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One selected ID image: a row of the run's ID manifest.

    key: unique within the data set (path relative to its root, or ``file.parquet#row``).
    label: class index in [0, C); name: the class's display name (names may repeat, labels do not).
    """

    key: str
    label: int
    name: str
    uri: str
    n_bytes: int
    width: int
    height: int
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class SampleTask:
    """One sample to make. ``key`` is unique in the run; ``seed`` depends on the root seed and the source alone.

    rerun: number of the rerun that draws it anew, with a seed of its own (`redrawn_seed`); 0: none.
    """

    key: str
    unit: int
    source: SourceImage
    draw: int
    seed: int
    rerun: int = 0


def sample_key(index: int) -> str:
    """Key of the sample at this position of the plan."""
    return f"{index:08d}"


@dataclass(slots=True)
class SampleRow:
    """One finished sample: a row of ``parts/*.parquet`` and of the published shards.

    image: PNG bytes of the best image, None if the sample failed before it had one.
    score_trace, margin_trace: one value a round, in order; margins in ID standard deviations from the boundary.
    reject_reason: "" (accepted), "rounds" (never in the band), "clip" or "mllm" (still shows its class), "empty" (shows
    nothing where a thing was painted), "duplicate" (in shards only: nearly the same as another accepted sample of its
    class), or "error: …" (a failed sample; `failed` is true).
    seed, rerun: what it was drawn with, and the rerun that drew it anew (``reruns/``; 0: none, the plan's own seed).
    policy, names, weight, partner: what was painted (`synood_ray.sampling.prompts`): by which policy, the names of the
    things, the second one's share where there are two, and the ID class that it is ("" if it is none).
    companion: PNG bytes of the regenerated ID image, or None.
    feature: of the image, by the scorer's CLIP: of unit length, rounded to half precision; [] if it failed, or the
    scorer is a classifier.
    milliseconds: wall time by stage, such as {"refine": 812.0}.
    arithmetic: what decided how the sample's numbers were rounded (`synood_ray.sampling.batches`): machine, library,
    precision, batches. On CPUs, equal tasks under equal settings, models and arithmetic have equal bytes. "" in rows of
    version 0.1.0, whose bytes may depend on what was in work beside them.
    """

    key: str
    unit: int
    image: bytes | None
    source_key: str
    source_label: int
    source_name: str
    mask: str
    prompt: str
    negative_label: str
    seed: int
    rounds: int
    score_trace: list[float]
    margin_trace: list[float]
    margin: float
    accepted: bool
    failed: bool
    reject_reason: str
    companion: bytes | None = None
    rerun: int = 0
    policy: str = ""
    names: list[str] = field(default_factory=list)
    weight: float = 0.0
    partner: str = ""
    feature: list[float] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)
    attempt: int = 1
    worker: str = ""
    milliseconds: dict[str, float] = field(default_factory=dict)
    code_version: str = ""
    arithmetic: str = ""


def sample_seed(root: int, source_key: str, draw: int) -> int:
    """63-bit seed of one sample: a hash of (root seed, source key, draw), independent of order and batch."""
    return _seed(f"{root}\0{source_key}\0{draw}")


def redrawn_seed(seed: int, where: str, again: int) -> int:
    """63-bit seed of a sample that is drawn anew: a hash of its first seed, the predicate that chose it, and how often.

    It depends on nothing else that became of the run, so equal reruns of equal runs draw equal samples.
    """
    return _seed(f"{seed}\0{where}\0{again}")


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
