"""A contact sheet of a run for a README or a slide: per column the source, what was to be painted, and the result."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from synood_ray.config.settings import Settings
from synood_ray.data.decode import UnusableImage
from synood_ray.errors import UserError
from synood_ray.models.images import from_png, to_square
from synood_ray.report.outcomes import painted
from synood_ray.report.rows import Samples
from synood_ray.sampling.loader import SourceLoader
from synood_ray.storage.run import Run

CELL, GAP, LINE = 112, 10, 14
"""Pixels: side of a picture, distance between them, height of a line of text."""

FORMATS = {".png": "PNG", ".jpg": "JPEG"}
_NARROW, _WIDE = 9, 12  # columns of up to two rows, of more
_LINES, _LETTERS = 3, 19
_PAPER, _INK, _SOFT, _NOTHING = "#ffffff", "#1f2328", "#646b75", "#e5e6e8"


def draw_sheet(run: Run, settings: Settings, count: int = 18) -> Image.Image:
    """So many accepted samples, every class once before any comes again, in the order of a hash: nobody picked them.

    Each: the source and its class, the result and what it was to be ("half duck, half owl"), or its margin where its
    policy names nothing. Raises UserError if no sample is accepted yet.
    """
    samples = Samples(run, published=run.status().published)
    order = samples.mixed()
    order = order[samples.column("accepted")[order]][:count]
    if not len(order):
        raise UserError(f"{run.uri}: no sample is accepted yet, so there is nothing to draw")
    table = samples.table.take(order).to_pylist()
    captions = [textwrap.wrap(caption(row), _LETTERS)[:_LINES] for row in table]
    made = {position: image for position, image, _ in samples.pictures(order)}
    sources = {source.key: source for source in run.sources()}
    loader = SourceLoader(settings)
    columns = min(_WIDE if count > 2 * _NARROW else _NARROW, len(order))
    rows = -(-len(order) // columns)
    height = 2 * CELL + (2 + max(map(len, captions))) * LINE + 2 * GAP
    sheet = Image.new("RGB", (columns * (CELL + GAP) + GAP, rows * height + GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, (position, row, lines) in enumerate(zip(order.tolist(), table, captions, strict=True)):
        x, y = GAP + index % columns * (CELL + GAP), GAP + index // columns * height
        try:
            source = loader.image(sources[row["source_key"]])
        except (OSError, UnusableImage, KeyError):
            source = Image.new("RGB", (1, 1), _NOTHING)  # it may have moved since
        sheet.paste(to_square(source, CELL), (x, y))
        pen.text((x, y + CELL + 2), _short(row["source_name"]), fill=_SOFT, font=font)
        y += CELL + LINE + GAP
        sheet.paste(to_square(from_png(made[position] or b""), CELL), (x, y))
        for number, line in enumerate(lines):
            pen.text((x, y + CELL + 2 + number * LINE), line, fill=_INK, font=font)
    return sheet


def caption(row: Mapping[str, Any]) -> str:
    """What stands below a result: what it was to be; its margin where its policy names nothing."""
    return painted(row["policy"], row["names"], row["weight"]) or f"margin {row['margin']:+.2f}"


def sheet_file(run: Run, settings: Settings, suffix: str, count: int) -> bytes:
    """The sheet as a file of one of the `FORMATS`, by its suffix."""
    buffer = io.BytesIO()
    draw_sheet(run, settings, count).save(buffer, FORMATS[suffix], optimize=True, quality=88)
    return buffer.getvalue()


def _short(text: str) -> str:
    return textwrap.shorten(text, _LETTERS, placeholder="…")
