"""Measure the miniature world against its targets: a table, and the same figures as JSON.

    python -m tools.mini_world.check --json out.json

Uses the bundled models and images only. Figures that fall short are reported as such; the exit code is 0 either way.
"""

import argparse
import importlib
import io
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synood_ray.mini import data_path


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, its value, the target in words, and whether it was reached (None: no target)."""

    what: str
    value: float | str
    target: str
    passed: bool | None


@dataclass(frozen=True)
class Images:
    """A bundled Parquet file, decoded: images uint8 [N, 3, 64, 64], labels [N], boxes [N, 4]; names and contexts."""

    images: Any
    labels: Any
    boxes: Any
    names: list[str]
    contexts: list[list[str]]


def read_images(name: str) -> Images:
    """Decode ``data/NAME.parquet``."""
    import numpy as np
    import pyarrow.parquet as pq
    import torch
    from PIL import Image

    table = pq.read_table(data_path(f"{name}.parquet")).to_pydict()
    pixels = [np.array(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table["image"]]
    return Images(
        images=torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2),
        labels=torch.tensor(table["label"]),
        boxes=torch.tensor(table["box"]),
        names=table["name"],
        contexts=table["context"],
    )


def at_least(what: str, value: float, bound: float) -> Row:
    return Row(what, round(value, 4), f">= {bound:g}", value >= bound)


def at_most(what: str, value: float, bound: float) -> Row:
    return Row(what, round(value, 4), f"<= {bound:g}", value <= bound)


def between(what: str, value: float, low: float, high: float) -> Row:
    return Row(what, round(value, 4), f"{low:g} to {high:g}", low <= value <= high)


def megabytes(*paths: Path) -> float:
    """Size of files and folders in MB (1e6 bytes)."""
    files = [f for p in paths for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file()]
    return sum(f.stat().st_size for f in files) / 1e6


SECTIONS = {  # part -> module beside this one, and its function without arguments that returns list[Row]
    "clip": ("check_clip", "rows"),
    "oracle": ("check_clip", "oracle_rows"),
    "inpainting": ("check_inpainting", "rows"),
    "mllm": ("check_mllm", "rows"),
    "semantic": ("check_semantic", "rows"),
}


def measure(part: str) -> list[Row]:
    """The rows of one part."""
    module, function = SECTIONS[part]
    rows: list[Row] = getattr(importlib.import_module(f"tools.mini_world.{module}"), function)()
    return rows


def show(table: dict[str, list[Row]]) -> None:
    from rich.console import Console
    from rich.table import Table

    grid = Table("part", "what", "measured", "target", "")
    for part, rows in table.items():
        for row in rows:
            mark = {True: "[green]reached", False: "[red]short", None: ""}[row.passed]
            value = f"{row.value:.3f}" if isinstance(row.value, float) else row.value
            grid.add_row(part, row.what, value, row.target, mark)
    Console().print(grid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="only these parts")
    args = parser.parse_args()
    import torch

    torch.manual_seed(0)
    table: dict[str, list[Row]] = {}
    seconds: dict[str, float] = {}
    for part in args.only or SECTIONS:
        start = time.monotonic()
        table[part] = measure(part)
        seconds[part] = round(time.monotonic() - start, 1)
    show(table)
    if args.json:
        record = {"rows": {p: [asdict(r) for r in rows] for p, rows in table.items()}, "seconds": seconds}
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
