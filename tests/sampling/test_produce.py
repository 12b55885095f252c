"""Tasks to rows in a world without models: what is painted, kept, rejected and why."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from synood_ray.config.settings import Settings
from synood_ray.models.describers.base import Context
from synood_ray.models.images import to_tensor
from synood_ray.models.scorer import Judged
from synood_ray.records import SampleRow, SampleTask, SourceImage
from synood_ray.sampling import produce as produce_module
from synood_ray.sampling.produce import Models, produce
from synood_ray.sampling.relatives import Relatives
from tests.sampling.worlds import SIDE, LinearScorer, Reader, calibration

CLASSES, WORDS = ["crane", "fox"], ["stone", "cloud"]
LEVELS = [0.1, 0.3, 0.5, 0.7]
CONTEXTS = {str(index): Context(f"reeds {index}", "raw") for index in range(len(LEVELS))}


class Seer(LinearScorer):
    """Sees the same in every image: a crane, a fox, a stone, a cloud."""

    logits = torch.tensor([0.0, 1.0, 3.0, 2.0])

    def judge(self, images: torch.Tensor) -> Judged:
        return super().judge(images)._replace(logits=self.logits.expand(len(images), -1))

    def judge_with_gradient(self, images: torch.Tensor, objective: Any = None) -> tuple[Judged, torch.Tensor]:
        return self.judge(images), self.slope(images)


@pytest.fixture
def tasks(tmp_path: Path) -> list[SampleTask]:
    found = []
    for index, level in enumerate(LEVELS):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (16, 16), (round(255 * level),) * 3).save(path)
        source = SourceImage(f"{index}.png", index % 2, CLASSES[index % 2], str(path), path.stat().st_size, 16, 16)
        found.append(SampleTask(str(index), 7, source, 0, seed=100 + index))
    return found


@pytest.fixture
def inpainter() -> Reader:
    return Reader()


@pytest.fixture
def scorer() -> Seer:
    return Seer()


@pytest.fixture
def make(tasks: list[SampleTask], inpainter: Reader, scorer: Seer) -> Iterator[Any]:
    """``make(shows, **sampling)``: rows of the tasks."""
    opened = []

    def rows(
        shows: Any = None,
        contexts: dict[str, Context] = CONTEXTS,
        prompts: dict[str, Any] | None = None,
        sure: float = 0.0,
        **sampling: Any,
    ) -> list[SampleRow]:
        sections = {"sampling": {"max_step": 10.0, "mask": "whole", **sampling}, "prompts": prompts or {}}
        settings = Settings.model_validate({**sections, "data": {"uri": "nowhere"}})
        parts = replace(calibration(tau=5.0), sure=sure), WORDS, Relatives([[1], [0]])
        models = Models(settings, CLASSES, inpainter, scorer, *parts)  # type: ignore[arg-type]
        opened.append(models)
        return produce(tasks, contexts, models, shows, attempt=2, worker="here")

    yield rows
    for models in opened:
        models.engine.close()


def test_every_task_becomes_a_row_with_its_companion(make: Any, tasks: list[SampleTask], inpainter: Reader) -> None:
    rows = make()
    assert [row.key for row in rows] == [task.key for task in tasks]
    for row, task in zip(rows, tasks, strict=True):
        assert row.accepted and not row.reject_reason and not row.failed and abs(row.margin) <= 0.25
        assert (row.unit, row.seed, row.source_name, row.attempt, row.worker) == (
            7,
            task.seed,
            task.source.name,
            2,
            "here",
        )
        assert row.prompt == f"A photo of reeds {row.key}." and row.negative_label == "stone"
        assert row.rounds == len(row.score_trace) == len(row.margin_trace)
        assert row.image and row.companion and row.image != row.companion
        assert set(row.milliseconds) == {"load", "refine", "check"}
        assert Image.open(io.BytesIO(row.image)).size == (SIDE, SIDE) and row.margin == min(row.margin_trace, key=abs)
    features = np.array([row.feature for row in rows])
    assert (features == features.astype(np.float16)).all() and np.allclose((features**2).sum(1), 1, atol=1e-3)
    pixels = [np.asarray(Image.open(io.BytesIO(row.image))).transpose(2, 0, 1).ravel() / 255 for row in rows]
    assert (features @ np.array([one / np.linalg.norm(one) for one in pixels]).T).argmax(1).tolist() == [0, 1, 2, 3]
    own = [f"A photo of {task.source.name}." for task in tasks]
    assert sorted(inpainter.prompts) == sorted([row.prompt for row in rows] + own)


def test_a_sample_that_clip_still_takes_for_its_class_is_rejected(make: Any, scorer: Seer) -> None:
    scorer.logits = torch.tensor([0.0, 5.0, 3.0, 4.0])  # "fox", then "cloud"
    rows = make()
    assert [row.reject_reason for row in rows] == ["", "clip", "", "clip"]
    assert all(row.negative_label == "cloud" and row.accepted == (row.source_name == "crane") for row in rows)
    assert all(row.accepted for row in make(clip_check=False))


def test_a_class_counts_as_shown_where_clip_is_as_sure_as_of_held_out_images(make: Any, scorer: Seer) -> None:
    scorer.logits = torch.tensor([0.0, 5.0, 3.0, 4.0])  # "fox": .662
    assert [row.reject_reason for row in make(sure=0.66)] == ["", "clip", "", "clip"]
    assert all(row.accepted for row in make(sure=0.67))


def test_the_describer_is_asked_about_what_is_left_and_rejects_what_it_still_sees(make: Any, scorer: Seer) -> None:
    scorer.logits = torch.tensor([5.0, 0.0, 3.0, 4.0])
    asked = []

    def shows(pngs: list[bytes], subjects: list[str]) -> list[bool | None]:
        asked.append((pngs, subjects))
        return [True, None]

    rows = make(shows)
    assert [row.reject_reason for row in rows] == ["clip", "mllm", "clip", ""]
    assert asked == [([rows[1].image, rows[3].image], ["fox", "fox"])]


def test_out_of_rounds_has_a_reason_and_no_negative_label(make: Any) -> None:
    rows = make(rounds=1, recipe="fresh", band=1e-6)
    assert {row.reject_reason for row in rows} == {"rounds"}
    assert all(row.image and not row.accepted and not row.negative_label for row in rows)


def test_the_released_recipe_keeps_and_checks_nothing(make: Any, scorer: Seer) -> None:
    scorer.logits = torch.tensor([5.0, 5.0, 3.0, 4.0])
    rows = make(lambda pngs, subjects: pytest.fail("it was asked"), recipe="official")
    assert all(row.accepted and row.rounds == 3 and row.companion is None for row in rows)
    assert any(abs(row.margin) > 0.25 for row in rows)


@pytest.mark.parametrize(("recipe", "squashed"), [("official", True), ("newton", False)])
def test_the_released_recipe_squashes_images_and_paints_its_own_prompt(
    make: Any, tasks: list[SampleTask], monkeypatch: pytest.MonkeyPatch, recipe: str, squashed: bool
) -> None:
    wide = Image.new("RGB", (48, 16), (0, 0, 0))
    wide.paste((250, 250, 250), (0, 0, 16, 16))
    wide.save(tasks[0].source.uri)
    seen = []

    def watched(*given: Any) -> torch.Tensor:
        seen.append(to_tensor(*given))
        return seen[-1]

    monkeypatch.setattr(produce_module, "to_tensor", watched)
    row = make(recipe=recipe)[0]
    assert (seen[0].max() > 0.9) == squashed  # the white third is outside the centre square
    assert (row.prompt, row.policy) == (
        ("A photo only remain raw.", "official") if squashed else ("A photo of reeds 0.", "context")
    )


def test_what_cannot_be_made_is_a_failed_row_and_the_others_are_made(
    make: Any, tasks: list[SampleTask], inpainter: Reader
) -> None:
    Path(tasks[1].source.uri).write_bytes(b"no image")
    inpainter.fail_on = float(torch.tensor(round(255 * LEVELS[2]) / 255))
    rows = make(contexts={**CONTEXTS, "0": Context("", "No.", "describer: it refuses")})
    assert [row.failed for row in rows] == [True, True, True, False]
    assert rows[0].reject_reason == "error: describer: it refuses" and rows[0].prompt == ""
    assert rows[1].reject_reason.startswith("error: ") and rows[1].prompt == "A photo of reeds 1."
    assert rows[2].reject_reason == "error: RuntimeError: the denoiser met an image that it cannot bear"
    for row in rows[:3]:
        assert not row.accepted and row.image is None and row.companion is None and math.isnan(row.margin)
        assert row.feature == []
    assert rows[3].accepted


def test_a_sample_must_not_show_its_partner_either(make: Any, scorer: Seer) -> None:
    asked: list[list[str]] = []

    def shows(pngs: list[bytes], subjects: list[str]) -> list[bool | None]:
        asked.append(subjects)
        return [subject == "crane" for subject in subjects]

    scorer.logits = torch.tensor([0.0, 1.0, 9.0, 4.0])  # "stone"
    rows = make(shows, prompts={"policy": "blend"})
    assert {row.policy for row in rows} == {"blend"} and all(
        row.names == [row.source_name, row.partner] for row in rows
    )
    assert [row.reject_reason for row in rows] == ["mllm"] * 4 and sorted(asked[0]) == sorted(["crane", "fox"] * 4)
    scorer.logits = torch.tensor([0.0, 5.0, 3.0, 4.0])  # the source's class of some, the partner of the others
    assert [row.reject_reason for row in make(prompts={"policy": "blend"})] == ["clip"] * 4


def test_an_empty_place_is_rejected_where_a_thing_was_painted(make: Any) -> None:
    """The linear world paints noise, so that every other sample has less structure than its companion."""
    rows = make(prompts={"policy": "blend"}, structure=1.0)
    assert {row.reject_reason for row in rows} == {"", "empty"}
    assert all(row.accepted for row in make(prompts={"policy": "blend"}, structure=0.0))
    assert all(row.accepted for row in make(structure=1.0))  # the policy context paints no thing
    alone = make(prompts={"policy": "blend"}, structure=1.0, id_companions=False)
    assert all(row.accepted for row in alone)  # nothing to compare with
