"""Which of a run's ID images are left out when it is shared: those of an opt-out list, and near-duplicates."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from synood_ray.data.decode import UnusableImage
from synood_ray.errors import UserError, counted, first_line
from synood_ray.records import SourceImage
from synood_ray.storage import layout
from synood_ray.storage.distinct import Distinct
from synood_ray.storage.intact import intact
from synood_ray.storage.run import Run

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_READERS = 8


@dataclass(frozen=True)
class LeftOut:
    """Keys of sources whose samples are not shared, by why. unmatched: lines of the list that no source is meant by."""

    listed: frozenset[str] = frozenset()
    alike: frozenset[str] = frozenset()
    unmatched: tuple[str, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """All of them."""
        return self.listed | self.alike

    def __str__(self) -> str:
        words = [f"left out: {counted(len(self.listed), 'source')} of the list, {len(self.alike):,} near another one"]
        if self.unmatched:
            words.append(f"{counted(len(self.unmatched), 'line')} of the list match no source ({self.unmatched[0]!r})")
        return "; ".join(words)


def read_list(path: str) -> list[str]:
    """The lines of an opt-out list, without comments (from # at a line's start) and blank ones. Raises UserError."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--leave-out {path}: cannot be read as text ({first_line(error)})") from error
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise UserError(f"--leave-out {path}: no line in it; give source keys, patterns (dog/*.jpg) or SHA-256")
    return found


def listed(
    sources: Iterable[SourceImage], lines: Iterable[str], read: Callable[[SourceImage], bytes]
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Keys of the sources that the lines mean, and lines that mean none.

    A line is a source's key, a pattern of keys with * ? [ ] (in which * spans folders), or the SHA-256 of its bytes.
    read: gives these; called for every source if there is such a line.
    """
    sources, lines = list(sources), list(dict.fromkeys(lines))
    keys = {source.key for source in sources}
    digests = {match[1].lower(): line for line in lines if line not in keys and (match := _DIGEST.fullmatch(line))}
    meant: dict[str, set[str]] = {line: {line} & keys for line in lines}
    for line in lines:
        if line not in keys and any(sign in line for sign in "*?["):
            meant[line] |= {key for key in keys if fnmatch.fnmatchcase(key, line)}
    if digests:
        with ThreadPoolExecutor(_READERS) as readers:
            for source, digest in zip(sources, readers.map(lambda one: _digest(one, read), sources), strict=True):
                if digest in digests:
                    meant[digests[digest]].add(source.key)
    return frozenset().union(*meant.values()), tuple(line for line, found in meant.items() if not found)


def _digest(source: SourceImage, read: Callable[[SourceImage], bytes]) -> str:
    try:
        return hashlib.sha256(read(source)).hexdigest()
    except (UnusableImage, OSError) as error:
        words = f"{source.key} cannot be read to compare its SHA-256 ({first_line(error)})"
        raise UserError(f"--leave-out: {words}; bring the images back") from error


def alike(run: Run, least: float, without: frozenset[str]) -> frozenset[str]:
    """Keys of the run's sources that are nearer than `least` to one that comes before them in their class.

    By 1 - cos of the CLIP features that a fine-tuning has kept in the run. without: sources that are out already, and
    keep nobody else out. Raises UserError if there are no features.
    """
    sources = run.sources()
    features = _features(run, len(sources))
    staying = np.array([source.key not in without for source in sources])
    table = pa.table(
        {
            "feature": pa.array(list(features.astype(np.float16)), pa.list_(pa.float16())),
            "accepted": pa.array(staying),
            "reject_reason": pa.array([""] * len(sources)),
            "source_label": pa.array(sources.labels),
        }
    )
    kept = Distinct(least, len(run.classes)).sift(table).column("accepted").to_numpy()
    return frozenset(sources[int(place)].key for place in np.flatnonzero(staying & ~kept))


def _features(run: Run, count: int) -> np.ndarray:
    """CLIP features of the run's sources [count, D] float32, of unit length; of several models, the newest."""
    from safetensors.numpy import load

    entries = sorted(run.store.list(f"{layout.FEATURES}images-"), key=lambda entry: entry.modified)
    if not entries:
        raise UserError(
            f"--distinct-sources: {run.uri} has no CLIP features of its ID images; synood finetune makes them"
        )
    key = entries[-1].key
    with intact(run.store, key, "remove it, synood finetune makes it again"):
        found = load(run.store.get(key))["id"].astype(np.float32)
        if len(found) != count:
            raise ValueError(f"{len(found)} features of {count} sources")
    return found / np.linalg.norm(found, axis=1, keepdims=True)
