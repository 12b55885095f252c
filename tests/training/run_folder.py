"""A finished run made without any model: coloured squares as images, so that tests of later steps have a run."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from synood_ray.config.settings import Settings
from synood_ray.data.selection import select
from synood_ray.data.source import open_source
from synood_ray.records import SampleRow, SourceImage, sample_key
from synood_ray.storage import layout
from synood_ray.storage.parts import encode_samples
from synood_ray.storage.publish import publish
from synood_ray.storage.record import check_or_create_run
from synood_ray.storage.sources import encode_sources, sources_digest
from synood_ray.storage.stored_json import put_json
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store

COLOURS = {"red fox": (220, 60, 30), "blue bus": (30, 60, 220), "green frog": (40, 200, 60)}
WORDS = ["kite", "drum", "cloud", "anvil", "ladder", "spoon", "violin", "candle", "piano", "bridge", "mirror", "bus"]


def picture(colour: tuple[int, int, int], seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(-30, 31, (24, 24, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_images(folder: Path, per_class: int, seed: int) -> Path:
    for label, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            (folder / name / f"{i}.png").write_bytes(picture(colour, seed + 100 * label + i))
    return folder


def make_settings(folder: Path, clip: str) -> Settings:
    """Settings of a run in folder/run with images below folder; nothing is written but the images."""
    words = folder / "words.txt"
    words.write_text("\n".join(WORDS))
    near = folder / "near"
    for i, colour in enumerate([(220, 160, 30), (30, 160, 220)]):
        (near / f"near {i}").mkdir(parents=True)
        for j in range(4):
            (near / f"near {i}" / f"{j}.png").write_bytes(picture(colour, 900 + 10 * i + j))
    far = folder / "far"
    far.mkdir()
    for j in range(6):  # a flat folder: no classes
        (far / f"{j}.png").write_bytes(picture((128, 128, 128), 950 + j))
    return Settings.model_validate(
        {
            "output": str(folder / "run"),
            "data": {"uri": str(write_images(folder / "train", 6, 1)), "per_class": 4},
            "scorer": {"model": clip, "pretrained": None, "templates": ["a {}."]},
            "labels": {"candidates": str(words), "keep": 0.8, "groups": 3},
            "training": {"epochs": 2, "label_epochs": 1, "batch_size": 8},
            "evaluation": {
                "id_test": str(write_images(folder / "test", 3, 5000)),
                "near": {"mixed": str(near)},
                "far": {"grey": str(far)},
                "bootstrap": 20,
            },
        }
    )


def make_run(settings: Settings, accept: bool = True) -> Store:
    """Publish a run of two units in settings.output: every second sample accepted, one failed."""
    store = open_store(settings.output)
    selection = select(open_source(settings.data.uri, settings.data), settings.data)
    names = [info.name for info in selection.classes]
    half = -(-len(selection.sources) // 2)
    check_or_create_run(
        store,
        settings.model_copy(update={"farm": settings.farm.model_copy(update={"unit_size": half})}),
        id_manifest_sha256=sources_digest(selection.sources),
        planned=len(selection.sources),
        units=2,
        classes=names,
    )
    store.put_new(layout.ID_MANIFEST, encode_sources(selection.sources))
    store.put_new(layout.CALIBRATION_MANIFEST, encode_sources(selection.calibration))
    put_json(store, layout.SKIPS, {"skips": [{"key": "broken <b>.jpg", "reason": "empty file"}]})
    for unit, sources in enumerate((selection.sources[:half], selection.sources[half:])):
        rows = [_row(unit, i, source, accept, sample_key(half * unit + i)) for i, source in enumerate(sources)]
        store.put_new(layout.part_key(unit), encode_samples(rows, names))
    publish(store)
    return store


def _row(unit: int, index: int, source: SourceImage, accept: bool, key: str) -> SampleRow:
    accepted, failed = accept and index % 2 == 0, index == 1
    colour = tuple((np.array(COLOURS[source.name]) * 0.6 + 50).astype(int).tolist())
    margins = [1.4, 0.7, 0.1] if accepted else [1.5, 1.2, 1.1]
    return SampleRow(
        key=key,
        unit=unit,
        image=None if failed else picture(colour, index),  # type: ignore[arg-type]
        source_key=source.key,
        source_label=source.label,
        source_name=source.name,
        mask="whole",
        prompt="A photo of <i>grass</i>, sky.",
        negative_label="kite" if accepted else "",
        seed=index,
        rounds=3,
        score_trace=[20 + m for m in margins],
        margin_trace=margins,
        margin=margins[-1],
        accepted=accepted,
        failed=failed,
        reject_reason="" if accepted else "error: out of memory" if failed else "rounds",
        companion=None if failed else picture(COLOURS[source.name], 70 + index),
        policy="blend" if accepted else "context",
        names=[source.name, "kite"] if accepted else [],
        weight=0.5 if accepted else 0.0,
        milliseconds={"refine": 100.0},
    )
