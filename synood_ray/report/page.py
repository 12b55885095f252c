"""report/index.html: one self-contained page about a run, for a person to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from synood_ray.config.settings import Settings
from synood_ray.detection.methods import OURS
from synood_ray.detection.metrics import METRICS
from synood_ray.locations import run_name
from synood_ray.report.charts import Series, histogram
from synood_ray.report.figures import headlines, methods, set_section
from synood_ray.report.markdown import sections
from synood_ray.report.outcomes import funnel, reason_names, run_warnings
from synood_ray.report.packing import pack
from synood_ray.report.pictures import FOLDER, Gallery
from synood_ray.report.rows import Samples
from synood_ray.storage import layout
from synood_ray.storage.parts import unique_names
from synood_ray.storage.run import Run
from synood_ray.storage.stores.base import Put, Store

PAGE_BYTES = 4_900_000
"""What a page may weigh, so that it can be mailed and opens at once."""

SKIPS = 20
"""How many skipped input images are shown."""

DATA_BYTES = 3_600_000
"""How many of them the columns of samples may take."""

_SCRIPTS = ("samples.js", "cards.js", "viewer.js", "gallery.js")
_STYLES = ("page.css", "gallery.css")
_MARGIN_EDGES = np.linspace(-3, 3, 49)


def write_report(store: Store, settings: Settings, evaluation: Mapping[str, Any] | None = None) -> str:
    """Write the report of a run into it, in place of an older one; returns its key, ``report/index.html``.

    evaluation: the contents of evaluation.json; None: as stored, or left out if there is none.
    Images are shown by their bytes in the page; nothing is loaded from anywhere.
    """
    run = Run.open(store)
    put_page(store, layout.REPORT_PAGE, render(run, settings, evaluation or run.evaluation()))
    return layout.REPORT_PAGE


def put_page(store: Store, key: str, html: str) -> None:
    """Store a page in place of an older one."""
    while store.put_new(key, html.encode()) is Put.DIFFERENT:
        store.delete(key)


def render(run: Run, settings: Settings, evaluation: Mapping[str, Any] | None, folder: Store | None = None) -> str:
    """The page as text; of a run that is not published yet, from the parts that are there.

    folder: where the page will lie, if the pictures of all samples are to be in a folder beside it.
    """
    status = run.status()
    samples = Samples(run, published=status.published)
    reasons = [reason or "" for reason in samples.table.column("reject_reason").to_pylist()]
    steps, lines = funnel(run.record.planned, status, reasons)
    context = {
        "title": run_name(run.uri),
        "uri": run.uri,
        "record": run.record,
        "status": status,
        "warnings": [*((evaluation or {}).get("warnings") or []), *run_warnings(status)],
        "headlines": [one for one in headlines(evaluation) if one["first"]],
        "steps": steps,
        "reasons": lines,
        "alike": status.diversity.most_alike(unique_names(run.classes)) if status.diversity else "",
        "rounds": _mean_rounds(samples),
        "band": settings.sampling.band,
        "margins": _margin_chart(samples, settings.sampling.band),
        "skips": run.skips(),
        "most_skips": SKIPS,
        "evaluation": evaluation,
        "sets": [set_section(section, evaluation) for section in sections(evaluation)] if evaluation else [],
        "methods": methods(evaluation) if evaluation else [],
        "metrics": METRICS,
        "ours": OURS,
        "config": _flat(run.config),
        "styles": Markup("\n".join(_asset(name) for name in _STYLES)),
        "scripts": Markup("\n".join(_asset(name) for name in _SCRIPTS)),
    }
    template = _environment().get_template("page.html.j2")
    return template.render(context, gallery=_gallery(run, settings, samples, folder, len(template.render(context))))


def _gallery(run: Run, settings: Settings, samples: Samples, folder: Store | None, taken: int) -> dict[str, Any] | None:
    """What the gallery's scripts get, and what the page says of it. taken: bytes of the rest of the page."""
    if not len(samples):
        return None
    margins = samples.column("margin")
    low, high = np.percentile(margins[np.isfinite(margins)], [2, 98]) if np.isfinite(margins).any() else (0, 0)
    about = {
        "classes": unique_names(run.classes),
        "band": settings.sampling.band,
        "range": [round(min(-2.0, low), 2), round(max(2.0, high), 2)],
        "reasons": reason_names(samples.table.column("reject_reason").unique().to_pylist()),
        "folder": FOLDER if folder else None,
    }
    packed = pack(samples, about, DATA_BYTES)
    gallery = Gallery(samples, run.sources(), settings)
    left = PAGE_BYTES - taken - len(packed.text)
    pictures = gallery.write_folder(folder) if folder else gallery.embedded(packed.positions, left)
    in_page = asdict(pictures) | {"gone": sorted(pictures.gone)}
    return {
        "samples": packed.text,
        "pictures": Markup(json.dumps(in_page, separators=(",", ":")).replace("<", "\\u003c")),
        "shown": len(packed.positions),
        "of": len(samples),
        "left_out": packed.left_out,
        "pictured": len(samples) if folder else len(pictures.results),
        "with_images": int((~samples.column("failed")).sum()),
    }


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("synood_ray", "report/assets"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["percent"] = lambda value: f"{100 * value:.1f}"
    made.filters["signed"] = lambda value, digits: f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")
    made.filters["grouped"] = lambda value: f"{value:,}"
    return made


def _asset(name: str) -> str:
    return files("synood_ray.report").joinpath("assets").joinpath(name).read_text(encoding="utf-8")


def _mean_rounds(samples: Samples) -> float | None:
    rounds = samples.column("rounds")[samples.column("accepted")]
    return float(rounds.mean()) if len(rounds) else None


def _margin_chart(samples: Samples, band: Sequence[float]) -> Markup | None:
    """Where samples started (their first round) and where they ended."""
    traces = samples.table.column("margin_trace").to_pylist()
    traced = np.array([bool(trace) for trace in traces], dtype=bool)
    if not traced.any():
        return None
    first = np.array([trace[0] for trace in traces if trace])
    last = samples.column("margin")[traced]
    edges = _MARGIN_EDGES.tolist()

    def shares(values: np.ndarray) -> list[float]:
        inside = np.clip(values, edges[0], edges[-1])
        return (np.histogram(inside, _MARGIN_EDGES)[0] / len(values)).tolist()

    series = [Series("first round", "s-first", shares(first)), Series("kept round", "s-last", shares(last))]
    return histogram(
        edges, series, "margin, ID standard deviations from the boundary", band=band, y_label="share of samples"
    )


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Settings as (dotted name, value) in their order."""
    found: list[tuple[str, str]] = []
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, "–" if value in (None, "", {}, []) else str(value)))
    return found
