"""A sample depends on its seed, its image, the models and the settings: on the real small models, byte for byte."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest
import torch

from benchmarks.recipes import Bench
from synood_ray.cli.layers import load_preset, resolve
from synood_ray.models.images import to_png
from synood_ray.sampling.calibration import calibrate
from synood_ray.sampling.refine import Refiner
from synood_ray.sampling.sample import Refined, RefineTask

pytestmark = pytest.mark.real
SAMPLES = 17  # one more than the largest batch
Run = Callable[..., Iterable[Refined]]


@pytest.fixture(scope="module")
def bench() -> Bench:
    settings, _ = resolve([load_preset("mini")])
    return Bench(settings, SAMPLES, draws=1)


@pytest.fixture(scope="module")
def run(bench: Bench) -> Run:
    """``run(tasks, **sampling)``: the samples of some tasks."""
    held_out = itertools.islice(bench.images("mini://data/id_val.parquet"), 2)
    boundary = calibrate(held_out, bench.inpainter, bench.scorer, bench.settings, bench.class_names)

    def refine(tasks: list[RefineTask], **sampling: object) -> Iterable[Refined]:
        settings = bench.settings.sampling.model_copy(update=sampling)
        return Refiner(bench.inpainter, bench.scorer, boundary, settings).run(tasks)

    return refine


def made(results: Iterable[Refined]) -> dict[str, tuple[bytes, list[float]]]:
    """PNG bytes and scores by key."""
    return {result.key: (to_png(result.image), result.score_trace) for result in results}


@pytest.mark.parametrize("recipe", ["newton", "fresh"])
def test_strict_samples_are_the_same_bytes_in_any_batch_order_and_after_an_interruption(
    bench: Bench, run: Run, recipe: str
) -> None:
    options = {"recipe": recipe, "rounds": 3, "strict": True}
    expected = made(run(bench.tasks, batch_size=1, **options))
    assert len({scores[-1] for _, scores in expected.values()}) == SAMPLES  # no two samples are alike
    assert made(run(bench.tasks[::-1], batch_size=3, **options)) == expected
    interrupted = made(itertools.islice(run(bench.tasks, batch_size=16, **options), 5))
    left = [task for task in bench.tasks if task.key not in interrupted]
    assert len(left) == SAMPLES - 5
    assert interrupted | made(run(left, batch_size=16, **options)) == expected


def test_without_strict_mode_a_batch_changes_the_first_round_by_rounding_alone(bench: Bench, run: Run) -> None:
    """Later rounds may part: what one of them does follows from the scores of the one before."""
    alone = {r.key: r for r in run(bench.tasks, batch_size=1, rounds=1)}
    together = {r.key: r for r in run(bench.tasks, batch_size=16, rounds=1)}
    largest = max(float((alone[key].image - together[key].image).abs().max()) for key in alone)
    assert largest < 4 / 255  # a bfloat16 denoiser: about two grey levels of 8 bits were seen
    scores = torch.tensor([[alone[key].score_trace[0], together[key].score_trace[0]] for key in alone])
    assert torch.allclose(scores[:, 0], scores[:, 1], atol=0.1)
