"""The report of a large run: how long the page takes to make, what it weighs, and when Chromium shows it."""

from __future__ import annotations

import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.targets import Target
from synood_ray.config.settings import Settings
from synood_ray.records import SampleRow, SourceImage, sample_key

UNIT_SIZE = 500
DRAWS = 4
_READY = "document.getElementById('gallery').dataset.ready == 'true'"
_PRESS = """new Promise(done => {
  const begin = performance.now(), form = document.querySelector('#gallery form');
  form.elements.text.value = 'half';
  form.dispatchEvent(new Event('input', {bubbles: true}));
  requestAnimationFrame(() => setTimeout(() => done((performance.now() - begin) / 1000)));
})"""


def benchmark(settings: Settings, samples: int = 100_000, repetitions: int = 3) -> dict[str, Any]:
    """A run of that many samples, pictured by the images that the settings name, in a folder of its own.

    seconds, peak_mb: of making the page (the peak is the process's); bytes: of the page; open, search: seconds in
    Chromium from the address until the gallery stands, and from a word until its samples do; the best of repetitions.
    """
    from synood_ray.report.page import render
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store
    from tools.browser import chromium

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        make_run(settings, str(output), samples)
        run = Run.open(open_store(str(output), write=False))
        begin = time.monotonic()
        html = render(run, settings, None)
        seconds = time.monotonic() - begin
        page = Path(folder) / "index.html"
        page.write_text(html)
        opens, searches = [], []
        with chromium(Path(folder) / "profile") as browser:
            for _ in range(repetitions):
                begin = time.monotonic()
                browser.open(page.as_uri())
                browser.wait(_READY)
                opens.append(time.monotonic() - begin)
                searches.append(browser.run(_PRESS))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"samples": samples, "seconds": seconds, "peak_mb": peak, "bytes": len(html.encode())}
    return figures | {"open": min(opens), "search": min(searches)}


def targets(figures: dict[str, Any]) -> list[Target]:
    what = f"report of {figures['samples']:,} samples"
    return [
        Target(f"{what}: MB of the page", figures["bytes"] / 1e6, 5, "most"),
        Target(f"{what}: seconds until Chromium shows it", figures["open"], 2, "most"),
        Target(f"{what}: seconds from a word to its samples", figures["search"], 0.5, "most"),
    ]


def make_run(settings: Settings, output: str, samples: int) -> None:
    """A published run with so many samples, four of a source, blended of two names, most of them accepted."""
    from synood_ray.data.reader import ImageReader
    from synood_ray.data.selection import select
    from synood_ray.data.source import open_source
    from synood_ray.storage import layout
    from synood_ray.storage.parts import encode_samples
    from synood_ray.storage.publish import publish
    from synood_ray.storage.record import check_or_create_run
    from synood_ray.storage.sources import encode_sources, sources_digest
    from synood_ray.storage.stores import open_store

    chosen = select(open_source(settings.data.uri, settings.data), settings.data)
    names = [info.name for info in chosen.classes]
    reader = ImageReader(settings.data)
    images = [reader.read(source) for source in chosen.sources]
    sources = [_renamed(chosen.sources[i % len(images)], i) for i in range(-(-samples // DRAWS))]
    store = open_store(output)
    check_or_create_run(
        store,
        settings.model_copy(update={"farm": settings.farm.model_copy(update={"unit_size": UNIT_SIZE})}),
        id_manifest_sha256=sources_digest(sources),
        planned=samples,
        units=-(-samples // UNIT_SIZE),
        classes=names,
    )
    store.put_new(layout.ID_MANIFEST, encode_sources(sources))
    store.put_new(layout.CALIBRATION_MANIFEST, encode_sources(chosen.calibration))
    rows = _rows(sources, names, images, samples)
    for unit, first in enumerate(range(0, samples, UNIT_SIZE)):
        some = [next(rows) for _ in range(min(UNIT_SIZE, samples - first))]
        store.put_new(layout.part_key(unit), encode_samples(some, names))
    publish(store)


def _renamed(source: SourceImage, number: int) -> SourceImage:
    """The same image under a key like ImageNet's; a row of a Parquet file is still found."""
    row = source.key.rpartition("#")[2]
    key = f"n{source.label:08d}/n{source.label:08d}_{number}.JPEG#{row}"
    return SourceImage(
        key, source.label, source.name, source.uri, source.n_bytes, source.width, source.height, source.box
    )


def _rows(sources: list[SourceImage], names: list[str], images: list[bytes], samples: int) -> Iterator[SampleRow]:
    chance = random.Random(0)
    for i in range(samples):
        source, other = sources[i // DRAWS], chance.choice(names)
        trace = [chance.gauss(0.5, 0.8) for _ in range(chance.choice([1, 1, 1, 2, 2, 3, 6]))]
        accepted = 0 <= trace[-1] <= 1.1
        words = ", ".join(chance.sample(names, 3))
        yield SampleRow(
            key=sample_key(i),
            unit=i // UNIT_SIZE,
            image=images[chance.randrange(len(images))],
            source_key=source.key,
            source_label=source.label,
            source_name=source.name,
            mask="square",
            prompt=f"A photo of 0.5 {source.name} + 0.5 {other}, {words}.",
            negative_label=chance.choice(names),
            seed=chance.getrandbits(63),
            rounds=len(trace),
            score_trace=trace,
            margin_trace=trace,
            margin=trace[-1],
            accepted=accepted,
            failed=False,
            reject_reason="" if accepted else chance.choice(["rounds", "clip", "mllm"]),
            policy=chance.choice(["blend", "switch"]),
            names=[source.name, other],
            weight=0.5,
            partner=other,
        )
