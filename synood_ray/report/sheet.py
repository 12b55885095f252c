"""A contact sheet of a run for a README or a slide: sources above, the boundary images made from them below.

python -m synood_ray.report.sheet --run runs/demo --output docs/boundary.png
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from synood_ray.config.settings import DataSettings
from synood_ray.data.decode import decode
from synood_ray.data.reader import ImageReader
from synood_ray.models.images import from_png, to_square
from synood_ray.records import SampleRow
from synood_ray.storage.run import Run
from synood_ray.storage.stores import open_store

CELL, GAP, TEXT = 96, 6, 16  # pixels


def one_a_class(run: Run, count: int) -> Iterator[SampleRow]:
    """Accepted samples, the first of each class, at most ``count``."""
    seen: set[int] = set()
    for row in run.samples():
        if row.accepted and row.source_label not in seen and len(seen) < count:
            seen.add(row.source_label)
            yield row


def draw_sheet(run: Run, columns: int = 9, rows: int = 2) -> Image.Image:
    """``columns`` x ``rows`` pairs of source and boundary image, with class and margin."""
    samples = list(one_a_class(run, columns * rows))
    sources = {source.key: source for source in run.sources()}
    data = DataSettings()
    reader = ImageReader(data)
    height = 2 * (CELL + TEXT) + 2 * GAP
    sheet = Image.new("RGB", (columns * (CELL + GAP) + GAP, rows * height + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for index, row in enumerate(samples):
        x, y = GAP + index % columns * (CELL + GAP), GAP + index // columns * height
        source = decode(reader.read(sources[row.source_key]), data)
        made = from_png(row.image or b"")
        for picture, below, text in ((source, 0, row.source_name), (made, CELL + TEXT, f"margin {row.margin:+.2f}")):
            square = to_square(picture.convert("RGB"), CELL)
            sheet.paste(square, (x, y + below))
            pen.text((x, y + below + CELL + 1), text[:17], fill="black", font=font)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="run folder, published")
    parser.add_argument("--output", type=Path, required=True, help="PNG file to write")
    arguments = parser.parse_args()
    sheet = draw_sheet(Run.open(open_store(arguments.run, write=False)))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
