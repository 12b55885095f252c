"""A dry run over a million images, as Parquet files and as a folder of class folders: seconds and memory."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.resuming import ASK, JOB, timed
from benchmarks.targets import Target

_COLOURS = ("black", "blue", "brown", "green", "grey", "orange", "pink", "red", "white", "yellow")
_THINGS = ("bird", "boat", "car", "cat", "chair", "dog", "fish", "flower", "house", "tree")
CLASSES = [f"{colour} {thing}" for colour in _COLOURS for thing in _THINGS]
FILES = 10


def benchmark(images: int = 1_000_000) -> dict[str, Any]:
    """`synood synthesize --dry-run` in a process of its own, once for each kind of source. The images are one image."""
    found: dict[str, Any] = {"images": images}
    for kind, make in (("parquet", make_parquet), ("folder", make_folder)):
        with tempfile.TemporaryDirectory() as name:
            data, output = Path(name) / "images", Path(name) / "run"
            make(data, images)
            arguments = ["--preset", "mini", "--data", str(data), "--output", str(output), "--dry-run"]
            found[kind] = timed([sys.executable, "-c", ASK, str(JOB), *arguments])
            assert found[kind]["code"] == 0, "it refuses what it was given"
    return found


def targets(figures: dict[str, Any]) -> list[Target]:
    found = []
    for kind in ("parquet", "folder"):
        what = f"dry run on {figures['images']:,} images ({kind})"
        found.append(Target(f"{what}: seconds of the whole process", figures[kind]["seconds"], 30, "most"))
        found.append(Target(f"{what}: peak memory, MB", figures[kind]["peak_mb"], 1000, "most"))
    return found


def make_parquet(folder: Path, images: int) -> None:
    """So many rows of a tiny image and its class, in ten files."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    for number, rows in enumerate(np.array_split(np.arange(images), FILES)):
        image = pa.array([{"bytes": _png(), "path": None}] * len(rows))
        label = pa.array(CLASSES).take(pa.array(rows % len(CLASSES)))
        pq.write_table(pa.table({"image": image, "label": label}), folder / f"{number}.parquet")


def make_folder(folder: Path, images: int) -> None:
    """So many names in class folders; those of a class are links to one file."""
    for label, name in enumerate(CLASSES):
        kind = folder / name
        kind.mkdir(parents=True)
        first = kind / f"{label}.png"
        first.write_bytes(_png())
        for number in range(label + len(CLASSES), images, len(CLASSES)):
            os.link(first, kind / f"{number}.png")


def _png() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()
