"""The samples as the page's script gets them: columns of numbers and lists of words, compressed.

A row takes about 30 bytes, so that 100,000 fit into a page. What does not fit is left out, the least needed first, and
the page says so.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from synood_ray.report.outcomes import painted
from synood_ray.report.rows import Samples

OUTCOMES = ("accepted", "rejected", "failed")
"""What can become of a sample; the page's script knows them by their place here."""

_LEFT_OUT_FIRST = {"trace": "margins by round", "prompt": "prompts"}
_WORDS = ("source_key", "mask", "policy", "prompt", "negative_label", "reject_reason")
_PER_SIGMA = 100
"""Margins are told to a hundredth of an ID standard deviation."""


@dataclass(frozen=True)
class Packed:
    """text: base64 of gzipped JSON. positions: the samples in it. left_out: what they are told without."""

    text: str
    positions: np.ndarray
    left_out: list[str]


def pack(samples: Samples, about: Mapping[str, Any], budget: int) -> Packed:
    """All samples, with what else the script needs (about), in at most so many bytes.

    The first to be left out are the traces, then the prompts, then samples: the last ones of the mixed order.
    """
    left_out: list[str] = []
    columns = _columns(samples.table)
    text = _compressed({**about, "columns": columns})
    for name, what in _LEFT_OUT_FIRST.items():
        if len(text) > budget:
            del columns[name]
            left_out.append(what)
            text = _compressed({**about, "columns": columns})
    positions = np.arange(len(samples))
    while len(text) > budget and len(positions) > 1:
        keep = int(0.95 * len(positions) * budget / len(text))
        positions = np.sort(samples.mixed()[:keep])
        columns = _columns(samples.table.take(positions))
        text = _compressed({**about, "columns": {n: c for n, c in columns.items() if n not in _LEFT_OUT_FIRST}})
    return Packed(text, positions, left_out)


def _columns(table: pa.Table) -> dict[str, Any]:
    """Words as {words, of}: a list of them, and the place in it by sample. Keys as steps from one to the next."""
    found: dict[str, Any] = {name: _words(table.column(name).to_pylist()) for name in _WORDS}
    rows = list(zip(*(table.column(name).to_pylist() for name in ("policy", "names", "weight")), strict=True))
    found["names"] = _words([tuple(names) for _, names, _ in rows])
    found["what"] = _words([painted(*row) for row in rows])
    found["weight"] = [round(weight, 3) for _, _, weight in rows]
    found["key"] = np.diff([int(key) for key in table.column("key").to_pylist()], prepend=0).tolist()
    found["label"] = table.column("source_label").to_pylist()
    found["rounds"] = table.column("rounds").to_pylist()
    accepted, failed = (np.asarray(table.column(name).to_numpy()) for name in ("accepted", "failed"))
    found["outcome"] = np.where(failed, 2, np.where(accepted, 0, 1)).tolist()
    found["margin"] = [_hundredths(value) for value in table.column("margin").to_pylist()]
    found["trace"] = [[_hundredths(v) for v in trace] for trace in table.column("margin_trace").to_pylist()]
    return found


def _words(values: list[Any]) -> dict[str, list[Any]]:
    places: dict[Any, int] = {}
    of = [places.setdefault(value, len(places)) for value in values]
    return {"words": list(places), "of": of}


def _hundredths(margin: float | None) -> int | None:
    return None if margin is None or not np.isfinite(margin) else round(_PER_SIGMA * margin)


def _compressed(value: Mapping[str, Any]) -> str:
    raw = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return base64.b64encode(gzip.compress(raw, 9, mtime=0)).decode()
