"""Small runs to test on."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence

from synood_ray.config.settings import Settings
from synood_ray.farm.plan import Plan
from synood_ray.records import SampleRow, SampleTask, SourceImage
from synood_ray.storage import layout
from synood_ray.storage.parts import encode_samples
from synood_ray.storage.record import check_or_create_run
from synood_ray.storage.sources import sources_digest
from synood_ray.storage.stores.base import Store

CLASSES = ["crane", "crane", "toucan"]


@functools.cache
def png(shade: int) -> bytes:
    """An 8x8 image of one grey."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def make_sources(count: int) -> list[SourceImage]:
    """Sources of three classes, every other with a box."""
    return [
        SourceImage(
            key=f"{CLASSES[i % 3]}-{i % 3}/image {i}.png",
            label=i % 3,
            name=CLASSES[i % 3],
            uri=f"/data/image {i}.png",
            n_bytes=1000 + i,
            width=64,
            height=48,
            box=(1, 2, 30, 40) if i % 2 else None,
        )
        for i in range(count)
    ]


def make_row(task: SampleTask, **changes: object) -> SampleRow:
    """An accepted sample of a task."""
    row = SampleRow(
        key=task.key,
        unit=task.unit,
        image=png(int(task.key) % 256),
        source_key=task.source.key,
        source_label=task.source.label,
        source_name=task.source.name,
        mask="box",
        prompt="A photo of reeds, water.",
        negative_label="heron",
        seed=task.seed,
        rounds=2,
        score_trace=[1.5, 0.25],
        margin_trace=[2.0, 0.125],
        margin=0.125,
        accepted=True,
        failed=False,
        reject_reason="",
        companion=png(255),
        models={"scorer": "clip", "inpainter": "sd"},
        worker="sampler-1",
        milliseconds={"refine": 812.5, "decode": 3.0},
        code_version="abc",
    )
    for name, value in changes.items():
        setattr(row, name, value)
    return row


def fail(row: SampleRow) -> SampleRow:
    """The same sample, failed before it had an image."""
    row.image = row.companion = None
    row.accepted, row.failed, row.reject_reason = False, True, "error: broken"
    row.rounds, row.score_trace, row.margin_trace, row.margin = 0, [], [], float("inf")
    return row


def make_run(store: Store, samples: int = 20, unit_size: int = 6) -> Plan:
    """run.json of a run with that many samples; nothing done yet."""
    sources = make_sources(samples)
    plan = Plan(sources, unit_size=unit_size)
    check_or_create_run(
        store,
        Settings.model_validate({"farm": {"unit_size": unit_size}}),
        id_manifest_sha256=sources_digest(sources),
        planned=plan.samples,
        units=len(plan),
        classes=CLASSES,
    )
    return plan


def commit(store: Store, plan: Plan, units: Sequence[int] | None = None, failed: Sequence[str] = ()) -> None:
    """Commit these units of a run (or all), some samples failed, every fourth rejected."""
    for unit in range(len(plan)) if units is None else units:
        rows = [make_row(task) for task in plan.unit(unit)]
        for row in rows:
            if row.key in failed:
                fail(row)
            elif int(row.key) % 4 == 3:
                row.accepted, row.reject_reason = False, "rounds"
        store.put_new(layout.part_key(unit), encode_samples(rows, CLASSES))


def finished_run(store: Store, failed: tuple[str, ...] = ("00000004",)) -> None:
    commit(store, make_run(store, samples=50, unit_size=4), failed=failed)


def retry(store: Store, plan: Plan, samples: Sequence[int] = (1, 2)) -> None:
    """Commit a retry of failed samples of unit 0."""
    rows = [make_row(plan.unit(0)[sample], attempt=2) for sample in samples]
    store.put_new(layout.part_key(0, retry=1), encode_samples(rows, CLASSES))
