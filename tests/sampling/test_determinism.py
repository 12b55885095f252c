"""A sample depends on its seed, its image, the models and the settings: on the real small models, byte for byte."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from benchmarks.recipes import DATA, HELD_OUT, Bench
from synood_ray.cli.layers import load_preset, resolve
from synood_ray.data.source import open_source
from synood_ray.models.describers.base import Context
from synood_ray.models.images import to_png
from synood_ray.records import SampleTask, sample_key, sample_seed
from synood_ray.sampling.calibration import Calibration, calibrate
from synood_ray.sampling.produce import Models, produce
from synood_ray.sampling.refine import Refiner
from synood_ray.sampling.sample import Refined, RefineTask
from synood_ray.storage.parts import VOLATILE

pytestmark = pytest.mark.real
SAMPLES, BATCH = 11, 4
Run = Callable[..., Iterable[Refined]]


@pytest.fixture(scope="module")
def bench() -> Bench:
    settings, _ = resolve([load_preset("mini")])
    settings.sampling.batch_size, settings.sampling.rounds, settings.prompts.policy = BATCH, 3, "context"
    return Bench(settings, SAMPLES, draws=1)


@pytest.fixture(scope="module")
def boundary(bench: Bench) -> Calibration:
    return calibrate(itertools.islice(bench.images(HELD_OUT), 2), *_models(bench))


@pytest.fixture(scope="module")
def run(bench: Bench, boundary: Calibration) -> Run:
    """``run(tasks, recipe)``: the samples of some tasks."""

    def refine(tasks: list[RefineTask], recipe: str) -> Iterable[Refined]:
        settings = bench.settings.sampling.model_copy(update={"recipe": recipe})
        return Refiner(bench.inpainter, bench.scorer, boundary, settings).run(tasks)

    return refine


def _models(bench: Bench) -> tuple[Any, ...]:
    return bench.inpainter, bench.scorer, bench.settings, bench.class_names


def made(results: Iterable[Refined]) -> dict[str, tuple[bytes, list[float]]]:
    """PNG bytes and scores by key."""
    return {result.key: (to_png(result.image), result.score_trace) for result in results}


@pytest.mark.parametrize("recipe", ["newton", "fresh"])
def test_samples_are_the_same_bytes_in_any_order_and_company_and_after_an_interruption(
    bench: Bench, run: Run, recipe: str
) -> None:
    expected = made(run(bench.tasks, recipe))
    assert len({scores[-1] for _, scores in expected.values()}) == SAMPLES  # no two samples are alike
    assert made(run(bench.tasks[::-1], recipe)) == expected
    interrupted = made(itertools.islice(run(bench.tasks, recipe), 5))
    left = [task for task in bench.tasks if task.key not in interrupted]
    assert len(left) == SAMPLES - 5
    assert interrupted | made(run(left, recipe)) == expected
    assert made(run(bench.tasks[-1:], recipe)).items() <= expected.items()  # one alone


def test_the_boundary_is_the_same_however_its_images_come(bench: Bench) -> None:
    images = [image for batch in itertools.islice(bench.images(HELD_OUT), 1) for image in batch][:10]
    one_by_one = calibrate((image[None] for image in images), *_models(bench))
    assert calibrate(iter([*bench.images(HELD_OUT, 10)][:1]), *_models(bench)) == one_by_one


def test_rows_are_the_same_bytes_whichever_units_are_in_work_together(bench: Bench, boundary: Calibration) -> None:
    images = open_source(DATA, bench.settings.data).scan().images
    tasks = [
        SampleTask(sample_key(i), i // 3, source, 0, sample_seed(0, source.key, 0))
        for i, source in enumerate(images[: 3 * SAMPLES : 3])
    ]
    contexts = {task.key: Context("rose, key" if task.unit % 2 else "cloud", "raw") for task in tasks}
    units = [[task for task in tasks if task.unit == unit] for unit in range(tasks[-1].unit + 1)]

    def rows(in_work: int, order: int) -> list[dict[str, Any]]:
        models = Models(bench.settings, bench.class_names, bench.inpainter, bench.scorer, boundary)
        with ThreadPoolExecutor(in_work) as pool:
            found = itertools.chain(*pool.map(lambda unit: produce(unit, contexts, models), units[::order]))
            stored = [dataclasses.asdict(row) for row in sorted(found, key=lambda row: row.key)]
        models.engine.close()
        return [{name: value for name, value in row.items() if name not in VOLATILE} for row in stored]

    one_by_one = rows(1, 1)
    assert len(one_by_one) == SAMPLES and all(row["image"] and row["companion"] for row in one_by_one)
    assert rows(len(units), -1) == one_by_one


def test_draws_of_one_image_differ_and_the_nearest_of_them_are_near_duplicates(bench: Bench, run: Run) -> None:
    draws = [dataclasses.replace(bench.tasks[0], key=f"draw {seed}", seed=seed) for seed in range(4)]
    found = {result.key: result.feature for result in run([*draws, *bench.tasks[1:5]], "newton")}
    features = torch.stack([found[task.key] for task in [*draws, *bench.tasks[1:5]]])
    distances = 1 - features @ features.T
    among, to_others = distances[:4, :4][~torch.eye(4, dtype=torch.bool)], distances[:4, 4:]
    assert 1e-6 < among.min() < bench.settings.sampling.distinct < to_others.min()
