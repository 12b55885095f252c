"""What a describer proposes, from a real HTTP server through prompts to samples: without models."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from synood_ray.config.settings import Settings
from synood_ray.farm.actors.describer import DescriberActor
from synood_ray.farm.actors.sampler import SamplerActor
from synood_ray.farm.actors.scorer import RemoteScorer, ScorerActor
from synood_ray.farm.reports import BOXES, NAMES, Totals
from synood_ray.records import Box, SampleTask, SourceImage
from synood_ray.sampling.produce import Models
from synood_ray.sampling.relatives import Relatives
from synood_ray.storage import layout
from synood_ray.storage.parts import decode_samples, read_prompts
from synood_ray.storage.record import check_or_create_run
from synood_ray.storage.stores import open_store
from tests.chat_server import ChatProcess, chat_process
from tests.sampling.worlds import LinearInpainter, LinearScorer, calibration

CLASSES = ["fox", "owl"]
SIDE = 56

pytestmark = pytest.mark.usefixtures("no_key")


@pytest.fixture(scope="module")
def process() -> Iterator[ChatProcess]:
    with chat_process() as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path, process: ChatProcess) -> Settings:
    values = {
        "output": str(tmp_path / "run"),
        "describer": {"endpoint": process.url("looks") + "/v1"},
        "prompts": {"policy": "neighbour", "named_by": "describer", "context": 0},
        "sampling": {"find_boxes": True, "band": [-100, 100], "mllm_check": False, "structure": 0},
    }
    settings = Settings.model_validate(values)
    check_or_create_run(
        open_store(settings.output), settings, id_manifest_sha256="", planned=3, units=1, classes=CLASSES
    )
    return settings


@pytest.fixture
def tasks(tmp_path: Path) -> list[SampleTask]:
    """A fox, an owl, and a fox with a box of its own."""
    found = []
    for number, (label, box) in enumerate([(0, None), (1, None), (0, (1, 2, 30, 40))]):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (SIDE, SIDE), (40 * number, 80, 120)).save(path)
        source = SourceImage(f"{number}.png", label, CLASSES[label], str(path), path.stat().st_size, SIDE, SIDE, box)
        found.append(SampleTask(f"{number:08d}", 0, source, 0, number))
    return found


def texts(words: list[str]) -> torch.Tensor:
    """On a circle, in degrees: a jackal is nearer to the fox than the owl is, which has nothing near."""
    degrees = {"fox": 0.0, "owl": 60.0, "jackal": -30.0}
    angles = torch.tensor([degrees.get(word, 180.0) for word in words]).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_names_and_boxes_are_asked_for_once_stored_and_painted(
    settings: Settings, tasks: list[SampleTask], process: ChatProcess
) -> None:
    actor = DescriberActor(settings.model_dump(mode="json"), settings.output)
    described = actor.describe(0, tasks)
    store = open_store(settings.output)
    fox, owl, boxed = read_prompts(store, 0).values()
    assert fox.neighbours == boxed.neighbours == ["Wolf", "jackal", "coyotes"]  # no red fox, no sentence
    assert owl.neighbours == ["Wolf", "jackal", "coyotes"]
    assert (fox.box, owl.box, boxed.box) == ([7, 14, 35, 49], [], None)
    assert described.proposals == {BOXES: (1, 2)}
    asked = len(process.log(settings.describer.endpoint or ""))
    assert actor.describe(0, tasks).found and len(process.log(settings.describer.endpoint or "")) == asked

    sampler = SamplerActor(settings.model_dump(mode="json"), settings.output, CLASSES, [])
    parts: Any = (LinearInpainter(), LinearScorer(), calibration(), (), Relatives([], [["dingo"], ["hawk"]]))
    models = sampler.models = Models(settings, CLASSES, *parts, texts=texts)
    boxes: list[Box | None] = []
    mask = models.loader.mask
    models.loader.mask = lambda source, side: boxes.append(source.box) or mask(source, side)  # type: ignore[method-assign, func-returns-value]
    report = sampler.sample(0, tasks, 1, None)
    rows = decode_samples(store.get(layout.part_key(0)))
    assert [row.names for row in rows] == [["jackal"], ["hawk"], ["jackal"]]  # of the owl's, CLIP lets nothing pass
    assert boxes == [(7, 14, 35, 49), None, (1, 2, 30, 40)]
    assert report.proposals == {NAMES: (1, 3)}
    totals = Totals()
    totals.add(described, sampled=False)
    totals.add(report, sampled=True)
    totals.add(report, sampled=True)
    assert totals.proposals == {BOXES: (1, 2), NAMES: (2, 6)}
    models.engine.close()


def test_the_gate_can_ask_a_scorer_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda found: found, is_initialized=bool))
    actor = ScorerActor(Settings().model_dump(), str(tmp_path), CLASSES)
    actor.scorer = SimpleNamespace(encode_names=texts)  # type: ignore[assignment]
    remote = RemoteScorer([SimpleNamespace(call=SimpleNamespace(remote=actor.call))])
    assert torch.equal(remote.encode_names(["owl", "jackal"]), texts(["owl", "jackal"]))
