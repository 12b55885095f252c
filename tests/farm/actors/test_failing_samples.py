"""What the workers do with single samples that fail, without models."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from synood_ray.config.settings import Settings
from synood_ray.errors import Unavailable, UserError
from synood_ray.farm.actors import named
from synood_ray.farm.actors.describer import DescriberActor
from synood_ray.farm.actors.sampler import SamplerActor
from synood_ray.models.describers.answers import Answer
from synood_ray.models.describers.base import Context, clean_answers
from synood_ray.records import SampleTask, SourceImage
from synood_ray.sampling.produce import Models
from synood_ray.storage import layout
from synood_ray.storage.parts import decode_samples, read_prompts
from synood_ray.storage.stores import open_store
from tests.sampling.worlds import LinearInpainter, LinearScorer, calibration

PASSWORD = "hunter22"


class Describer:
    """Refuses owls; is away for cats."""

    def describe(
        self, images: Sequence[Image.Image], subjects: Sequence[str], keys: Sequence[str] | None = None
    ) -> list[Context]:
        if "cat" in subjects:
            raise Unavailable("the server is away")
        answers = ["I'm sorry, but I can't help." if name == "owl" else "tree" for name in subjects]
        return clean_answers(DescriberSettings, list(map(Answer, answers)), subjects, lambda text: len(text.split()))


DescriberSettings = Settings().describer


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    endpoint = f"http://user:{PASSWORD}@host:8000/v1?key={PASSWORD}"
    output = str(tmp_path / "run")
    return Settings.model_validate({"output": output, "describer": {"endpoint": endpoint}, "data": {"min_side": 1}})


@pytest.fixture
def tasks(tmp_path: Path) -> list[SampleTask]:
    """A fox, an owl, a fox whose image has gone, and one whose image is damaged."""
    found = []
    for number, name in enumerate(["fox", "owl", "fox", "fox"]):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (16, 16), (number, 0, 0)).save(path)
        source = SourceImage(f"{name}/{number}.png", number, name, str(path), path.stat().st_size, 16, 16)
        found.append(SampleTask(f"{number:08d}", 0, source, 0, number))
    (tmp_path / "2.png").unlink()
    (tmp_path / "3.png").write_bytes(b"damaged")
    return found


def describer(settings: Settings) -> DescriberActor:
    actor = DescriberActor(settings.model_dump(mode="json"), settings.output)
    actor.describer = Describer()  # type: ignore[assignment]
    return actor


def sampler(settings: Settings, class_names: list[str]) -> SamplerActor:
    """The real actor, in a world whose latents are pixels."""
    actor = SamplerActor(settings.model_dump(mode="json"), settings.output, class_names, [])
    parts: Any = (LinearInpainter(), LinearScorer(), calibration())
    actor.models = Models(settings, class_names, *parts)
    actor.run = "of these tests"
    return actor


def test_an_image_about_which_nothing_can_be_had_fails_alone(settings: Settings, tasks: list[SampleTask]) -> None:
    report = describer(settings).describe(0, tasks)
    rows = read_prompts(open_store(settings.output), 0)
    assert report.samples == 4 and [*rows] == [task.key for task in tasks]
    fox, owl, gone, damaged = rows.values()
    assert fox.prompt == "A photo of tree." and not fox.error
    assert owl.error == "describer: refused: “I'm sorry, but I can't help.”" and owl.raw.startswith("I'm sorry")
    assert "No such file" in gone.error and damaged.error
    assert not (owl.prompt or owl.context or gone.prompt or damaged.prompt)

    actor = sampler(settings, ["fox", "owl", "x", "y"])
    report = actor.sample(0, tasks, 1, None)
    made, *failed = decode_samples(open_store(settings.output).get(layout.part_key(0)))
    assert (report.accepted, report.failed) == (1, 3) and made.accepted and made.companion
    assert report.reasons == {"error": 3} and report.margins == (made.margin,) and report.rounds == (made.rounds,)
    assert report.denoiser_calls >= 2 and report.stored > 0  # an image and its companion
    assert [row.reject_reason for row in failed] == [f"error: {row.error}" for row in (owl, gone, damaged)]
    assert all(row.failed and not row.accepted and math.isnan(row.margin) for row in failed)
    assert failed[0].models["describer"] == "http://host:8000/v1"
    assert PASSWORD not in repr(failed)


def test_a_retry_has_a_file_of_its_own(settings: Settings, tasks: list[SampleTask]) -> None:
    actor = describer(settings)
    actor.describe(0, tasks)
    again = SampleTask(tasks[1].key, 0, tasks[0].source, 0, 1)
    actor.describe(0, [again], 1)
    store = open_store(settings.output)
    assert read_prompts(store, 0)["00000001"].error
    assert read_prompts(store, 0, 1)["00000001"].prompt == "A photo of tree."
    assert layout.prompts_unit(layout.prompts_key(0, 1)) == (0, 1)


def test_damaged_prompts_are_put_aside_and_described_anew(settings: Settings, tasks: list[SampleTask]) -> None:
    tasks = tasks[:1]
    describer(settings).describe(0, tasks)
    store, key = open_store(settings.output), layout.prompts_key(0)
    whole = store.get(key)
    store.delete(key)
    store.put_new(key, whole[: len(whole) // 2])
    actor = sampler(settings, ["fox", "owl", "x", "y"])
    with pytest.raises(RuntimeError, match=r"part-000000\.parquet: damaged"):
        actor.sample(0, tasks, 1, None)
    assert store.get("damaged/prompts-part-000000.parquet") == whole[: len(whole) // 2]
    with pytest.raises(RuntimeError, match=r"sample 00000000 has no prompt: .*--retry-failed"):
        actor.sample(0, tasks, 2, None)
    describer(settings).describe(0, tasks)
    assert store.get(key) == whole and actor.sample(0, tasks, 3, None).accepted == 1


def test_a_server_that_is_away_fails_no_sample(settings: Settings, tasks: list[SampleTask]) -> None:
    cat = SampleTask(tasks[0].key, 0, SourceImage("c", 0, "cat", tasks[0].source.uri, 1, 16, 16), 0, 0)
    with pytest.raises(Unavailable):
        describer(settings).describe(0, [cat])
    assert not read_prompts(open_store(settings.output), 0)


def test_answers_that_cannot_be_told_are_counted(
    settings: Settings, tasks: list[SampleTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda found: found, is_initialized=bool))
    settings.sampling.clip_check = False
    source = tasks[0].source
    foxes = [SampleTask(f"{i:08d}", 0, source, 0, i) for i in range(4)]
    describer(settings).describe(0, foxes)
    checker = SimpleNamespace(shows=SimpleNamespace(remote=lambda images, names: [True, None, False, None]))
    report = sampler(settings, ["fox"]).sample(0, foxes, 1, checker)
    assert (report.checked, report.untold) == (4, 2)
    rows = decode_samples(open_store(settings.output).get(layout.part_key(0)))
    assert [row.reject_reason for row in rows] == ["mllm", "", "", ""]
    unasked = sampler(settings, ["fox"]).sample(0, foxes[:1], 1, None, 1)
    assert (unasked.checked, unasked.untold) == (0, 0) and unasked.accepted == 1


def test_a_run_that_this_machine_does_not_see_is_told_before_models_load(tmp_path: Path) -> None:
    settings = Settings.model_validate({"output": str(tmp_path / "run")})
    for actor in (
        DescriberActor(settings.model_dump(mode="json"), settings.output),
        SamplerActor(settings.model_dump(mode="json"), settings.output, ["a", "b"], []),
    ):
        with pytest.raises(UserError, match=r"output: .* does not see what the driver wrote there; take a folder"):
            actor.ready()


def test_a_store_that_only_the_driver_may_read_is_told_with_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(output: str, patient: bool) -> None:
        raise UserError("s3://runs/x: could not list: no complete credentials found")

    monkeypatch.setattr(named, "open_store", refuse)
    actor = DescriberActor(Settings().model_dump(mode="json"), "s3://runs/x")
    with pytest.raises(UserError, match=r"no complete credentials found \(on a worker's machine, .*--runtime-env-json"):
        actor.ready()
