"""report/index.html: one self-contained page about a run, for a person to look at."""

from __future__ import annotations

import base64
import io
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from synood_ray.config.settings import Settings
from synood_ray.data.decode import UnusableImage, decode
from synood_ray.data.reader import ImageReader
from synood_ray.detection.metrics import METRICS
from synood_ray.models.images import from_png, to_square
from synood_ray.report.charts import Series, histogram, roc, sparkline
from synood_ray.report.rows import Sample, Samples
from synood_ray.storage import layout
from synood_ray.storage.run import Run
from synood_ray.storage.stores.base import Store

GALLERY, REJECTS, SKIPS = 24, 8, 20
"""How many accepted samples, rejected samples and skipped input images are shown."""

_THUMBNAIL = 160
_SMALL = 96
"""Images up to this side are shown pixel by pixel, as PNG; larger ones as JPEG thumbnails."""

_MARGIN_EDGES = np.linspace(-3, 3, 49)
_COLOURS = 8
"""Methods' colours in the page's style sheet, s-m1 to s-m8; the run's own detector has s-ours."""

BEFORE, AFTER = "neglabel", "synood"
"""The yardstick of the headlines, and what it is compared with. A run evaluated without BEFORE has its first method."""


@dataclass(frozen=True)
class Card:
    """One sample as the page shows it; source and image are data URIs (source None if it is gone)."""

    sample: Sample
    source: str | None
    image: str
    trace: Markup


def write_report(store: Store, settings: Settings, evaluation: Mapping[str, Any] | None = None) -> str:
    """Write the report of a run, in place of an older one; returns its key, ``report/index.html``.

    evaluation: the contents of evaluation.json; None: as stored, or left out if there is none.
    Images are shown by their bytes in the page; nothing is loaded from anywhere.
    """
    run = Run.open(store)
    html = render(run, settings, evaluation or run.evaluation())
    store.delete(layout.REPORT_PAGE)
    store.put_new(layout.REPORT_PAGE, html.encode())
    return layout.REPORT_PAGE


def render(run: Run, settings: Settings, evaluation: Mapping[str, Any] | None) -> str:
    """The page as text."""
    samples = Samples(run)
    sources = {source.key: source for source in run.sources()}
    reader = ImageReader(settings.data)

    def picture(key: str) -> str | None:
        try:
            return data_uri(decode(reader.read(sources[key]), settings.data))
        except (OSError, UnusableImage, KeyError):
            return None  # the images may have moved since; the report is no reason to fail

    def cards(count: int, *, accepted: bool) -> list[Card]:
        drawn = samples.draw(count, accepted=accepted)
        band = settings.sampling.band
        return [
            Card(s, picture(s.source_key), data_uri(from_png(png)), sparkline(s.margin_trace, band)) for s, png in drawn
        ]

    record, status = run.record, run.status()
    rows = samples.rows
    accepted_rounds = [s.rounds for s in rows if s.accepted]
    environment = Environment(
        loader=PackageLoader("synood_ray", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    return environment.get_template("page.html.j2").render(
        title=run.uri.rstrip("/").rpartition("/")[2],
        uri=run.uri,
        settings=settings,
        record=record,
        status=status,
        planned=record.planned,
        rounds=np.mean(accepted_rounds) if accepted_rounds else None,
        gallery=cards(GALLERY, accepted=True),
        rejects=cards(REJECTS, accepted=False),
        reasons=Counter(_reason(s) for s in rows if not s.accepted).most_common(),
        skips=run.skips(),
        most_skips=SKIPS,
        margins=_margin_chart(rows, settings.sampling.band),
        evaluation=evaluation,
        headlines=headlines(evaluation),
        sets=[_set_section(name, evaluation) for name in set_order(evaluation["sets"])] if evaluation else [],
        methods=_methods(evaluation) if evaluation else [],
        metrics=METRICS,
        config=_flat(run.config),
    )


def headlines(evaluation: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The headline metrics of every set: the best of the other methods, whichever that is, and this run's detector.

    Each: set, metric, name, best (name of that method), before (its value), after (None without a fine-tuned detector),
    better (None, or whether the detector is better than the best of the others).
    """
    if not evaluation:
        return []
    found = []
    for name in set_order(evaluation["sets"]):
        methods = evaluation["sets"][name]
        others = {method: values for method, values in methods.items() if not _is_ours(method)}
        for metric, about in METRICS.items():
            known = {method: values[metric] for method, values in others.items() if metric in values}
            if not about.headline or not known:  # an older evaluation knows fewer metrics
                continue
            best = (max if about.higher_is_better else min)(known, key=lambda method: known[method])
            before, after = known[best], methods.get(AFTER, {}).get(metric)
            better = None if after is None else (after > before) == about.higher_is_better and after != before
            found.append(
                {"set": name, "metric": metric, "name": about.title, "better": better}
                | {"best": best, "before": before, "after": after}
            )
    return found


def _is_ours(method: str) -> bool:
    """Whether it is this run's detector, or one of its ablations and controls, which are no methods of others."""
    return method == AFTER or method.startswith(f"{AFTER}_")


def _methods(evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every method in the order of tables: its name, what it is, and the CSS class of its colour."""
    listed = evaluation.get("methods") or [{"name": name, "what": ""} for name in evaluation["id"]]
    colours = (f"s-m{1 + i % _COLOURS}" for i in itertools.count())
    return [method | {"css": "s-ours" if method["name"] == AFTER else next(colours)} for method in listed]


def _before(evaluation: Mapping[str, Any]) -> str:
    return BEFORE if BEFORE in evaluation["id"] else str(_methods(evaluation)[0]["name"])


def set_order(names: Iterable[str]) -> list[str]:
    """Test sets as they are shown: near before far, then by name."""
    return sorted(names, key=lambda name: (not name.startswith("near/"), name))


def data_uri(image: Image.Image) -> str:
    """A picture as a data URI: small ones as they are (PNG), others as a square thumbnail (JPEG)."""
    buffer = io.BytesIO()
    if max(image.size) <= _SMALL:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        to_square(image, min(_THUMBNAIL, *image.size)).save(buffer, "JPEG", quality=85)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _set_section(name: str, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of one test set: table rows and charts."""
    values, curves = evaluation["sets"][name], evaluation["curves"][name]
    intervals = evaluation["intervals"].get(name, {})
    methods = _methods(evaluation)
    metrics = [metric for metric in METRICS if all(metric in row for row in values.values())]
    best = {
        metric: (max if METRICS[metric].higher_is_better else min)(row[metric] for row in values.values())
        for metric in metrics
    }
    before = _before(evaluation)
    after = AFTER if AFTER in values else before
    return {
        "name": name,
        "images": evaluation["images"][name],
        "values": values,
        "metrics": metrics,
        "intervals": intervals,
        "best": best,
        "roc": roc([Series(method["name"], method["css"], curves[method["name"]]["roc"]) for method in methods]),
        "histograms": [
            (method, _score_chart(curves[method]["histogram"])) for method in dict.fromkeys((before, after))
        ],
    }


def _score_chart(curve: Mapping[str, Sequence[float]]) -> Markup:
    series = [Series("ID", "s-id", curve["id"]), Series("OOD", "s-ood", curve["ood"])]
    return histogram(curve["edges"], series, "score, ID standard deviations from the ID mean")


def _margin_chart(rows: Sequence[Sample], band: Sequence[float]) -> Markup | None:
    """Where samples started (their first round) and where they ended."""
    traced = [s for s in rows if s.margin_trace]
    if not traced:
        return None
    first = np.array([s.margin_trace[0] for s in traced])
    last = np.array([s.margin for s in traced])
    edges = _MARGIN_EDGES.tolist()

    def shares(values: np.ndarray) -> list[float]:
        inside = np.clip(values, edges[0], edges[-1])
        return (np.histogram(inside, _MARGIN_EDGES)[0] / len(values)).tolist()

    series = [Series("first round", "s-first", shares(first)), Series("best round", "s-last", shares(last))]
    return histogram(
        edges,
        series,
        "margin, ID standard deviations from the boundary",
        band=band,
        y_label="share of samples",
    )


def _reason(sample: Sample) -> str:
    names = {
        "rounds": "never came into the band within its rounds",
        "clip": "still shows its class or its partner's (CLIP top-1)",
        "empty": "shows nothing where a thing was painted",
        "mllm": "still shows its class (multimodal LLM)",
    }
    return names.get(sample.reject_reason, sample.reject_reason)


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Settings as (dotted name, value) in their order."""
    found: list[tuple[str, str]] = []
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, "–" if value in (None, "", {}, []) else str(value)))
    return found
