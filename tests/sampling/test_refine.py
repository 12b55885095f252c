from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synood_ray.config.sampling import SamplingSettings
from synood_ray.sampling.prompts.base import Painting
from synood_ray.sampling.refine import Refiner
from synood_ray.sampling.sample import Refined, RefineTask
from tests.sampling.worlds import SIDE, BentScorer, LinearInpainter, LinearScorer, calibration


def task(key: str, level: float = 0.5, seed: int = 0, **extra: bool) -> RefineTask:
    return RefineTask(key, torch.full((3, SIDE, SIDE), level), torch.ones(1, SIDE, SIDE), Painting(""), seed, **extra)


def refiner(inpainter: LinearInpainter | None = None, tau: float = 0.0, **settings: object) -> Refiner:
    sampling = SamplingSettings.model_validate({"max_step": 10.0, **settings})
    return Refiner(inpainter or LinearInpainter(), LinearScorer(), calibration(tau), sampling)


def by_key(results: Iterator[Refined]) -> dict[str, Refined]:
    return {result.key: result for result in results}


def test_newton_reaches_a_linear_boundary() -> None:
    results = by_key(refiner(rounds=6).run([task(str(i), seed=i) for i in range(20)]))
    assert len(results) == 20
    assert all(r.in_band and abs(r.margin) <= 0.25 for r in results.values())
    assert all(abs(r.margin_trace[-1]) == min(map(abs, r.margin_trace)) for r in results.values())


def test_a_sample_stops_in_the_round_in_which_it_is_accepted() -> None:
    for result in refiner().run([task(str(i), seed=i) for i in range(20)]):
        assert all(abs(margin) > 0.25 for margin in result.margin_trace[:-1])


def test_out_of_rounds_is_rejected_with_the_best_image() -> None:
    (result,) = refiner(tau=1000.0, rounds=3, recipe="fresh").run([task("a")])
    assert not result.in_band and result.rounds == 3
    assert result.margin == min(result.margin_trace, key=abs)
    assert LinearScorer().score(result.image[None])[0] == pytest.approx(max(result.score_trace))


@given(
    batch_size=st.integers(1, 9),
    count=st.integers(0, 40),
    recipe=st.sampled_from(["newton", "fresh", "official"]),
    refine_every=st.integers(1, 3),
)
def test_every_batch_is_full_and_little_is_in_hand(batch_size: int, count: int, recipe: str, refine_every: int) -> None:
    inpainter, scorer = LinearInpainter(), BentScorer()
    sampling = SamplingSettings.model_validate(
        {"max_step": 10.0, "gain": 2.0, "rounds": 6, "recipe": recipe, "batch_size": batch_size}
    )
    finished = 0

    def stream() -> Iterator[RefineTask]:
        for index in range(count):
            assert index - finished < 4 * batch_size
            yield task(str(index), level=0.1 + 0.02 * index, seed=index, refine=index % refine_every == 0)

    keys = []
    for result in Refiner(inpainter, scorer, calibration(), sampling).run(stream()):
        finished += 1
        keys.append(result.key)
    assert sorted(keys, key=int) == [str(index) for index in range(count)]
    few = -(-batch_size // 4)  # after a move
    assert {*inpainter.batches, *scorer.looks, *scorer.gradients} <= {batch_size, few}
    if recipe != "newton":
        assert {*inpainter.batches, *scorer.looks, *scorer.gradients} <= {batch_size}


@pytest.mark.parametrize("recipe", ["newton", "fresh", "official"])
def test_a_result_does_not_depend_on_batch_or_order(recipe: str) -> None:
    tasks = [task(str(i), level=0.1 * i, seed=i) for i in range(10)]
    reference = by_key(refiner(recipe=recipe).run(tasks))
    for batch_size, order in ((1, tasks), (3, tasks[::-1]), (16, tasks[5:] + tasks[:5])):
        results = by_key(refiner(recipe=recipe, batch_size=batch_size).run(order))
        for key, expected in reference.items():
            assert results[key].score_trace == pytest.approx(expected.score_trace, abs=1e-5)
            assert torch.allclose(results[key].image, expected.image, atol=1e-6)


def test_official_never_stops_and_keeps_its_last_image() -> None:
    results = list(refiner(recipe="official").run([task(str(i), seed=i) for i in range(5)]))
    assert all(r.rounds == 3 and r.margin == r.margin_trace[-1] for r in results)
    for result in results:
        assert float(LinearScorer().score(result.image[None])[0]) == pytest.approx(result.score_trace[-1])


@pytest.mark.parametrize("recipe", ["newton", "fresh", "official"])
def test_logits_and_feature_kept_are_those_of_the_image_kept(recipe: str) -> None:
    for result in refiner(tau=3.0, rounds=4, recipe=recipe).run([task(str(i), seed=i) for i in range(5)]):
        judged = LinearScorer().judge(result.image[None])
        assert torch.allclose(result.logits, judged.logits[0]) and torch.allclose(result.feature, judged.features[0])


def test_between_two_sides_of_the_boundary_there_is_neither_denoising_nor_a_gradient() -> None:
    inpainter, scorer = LinearInpainter(), BentScorer()
    sampling = SamplingSettings.model_validate({"max_step": 10.0, "gain": 2.0, "batch_size": 1, "rounds": 8})
    tasks = [task(str(i), level=0.1 + 0.02 * i, seed=i) for i in range(20)]
    results = list(Refiner(inpainter, scorer, calibration(), sampling).run(tasks))
    assert all(result.in_band for result in results)
    passes = sum(inpainter.batches)
    assert passes < sum(result.rounds for result in results)  # a step too long was not taken back by another pass
    # a gradient in every first round; later ones only look, and ask for a gradient when they are to be steered on
    assert len(tasks) <= sum(scorer.gradients) <= passes
    assert sum(scorer.looks) == sum(result.rounds for result in results) - len(tasks)


def test_of_a_wide_band_only_what_lies_outside_takes_a_gradient() -> None:
    inpainter, scorer = LinearInpainter(), BentScorer()
    wide = {"max_step": 10.0, "gain": 2.0, "batch_size": 1, "rounds": 12, "band": [-0.5, 0.6]}
    tasks = [task(str(i), level=0.1 + 0.02 * i, seed=i) for i in range(20)]
    results = list(Refiner(inpainter, scorer, calibration(), SamplingSettings.model_validate(wide)).run(tasks))
    assert all(result.in_band for result in results)
    assert 0 < sum(result.rounds > 1 for result in results) < len(tasks)
    assert sum(scorer.gradients) == sum(inpainter.batches) - len(tasks)  # one for each step, none before
    assert sum(scorer.looks) == sum(result.rounds for result in results)


def test_a_step_that_falls_short_goes_on_along_the_secant_without_a_gradient() -> None:
    inpainter, scorer = LinearInpainter(), BentScorer()
    # The score bends upwards: from far above the boundary, the first-order step is much too short.
    sampling = SamplingSettings.model_validate({"max_step": 10.0, "gain": 1.0, "batch_size": 1, "rounds": 12})
    (result,) = Refiner(inpainter, scorer, calibration(), sampling).run([task("a", level=0.9)])
    trace = result.margin_trace
    assert result.in_band
    assert trace[0] > trace[1] > 0.25  # fell short
    assert trace[2] < trace[1] and len(scorer.gradients) < result.rounds - 1  # and needed no gradient to come nearer
    assert len(inpainter.batches) == 1 + len(scorer.gradients)  # the first pass, and one after each gradient step


def test_a_companion_takes_one_pass() -> None:
    (result,) = refiner(tau=1000.0).run([task("a", refine=False)])
    assert result.rounds == 1


def test_none_in_the_stream_means_go_on_with_what_is_there() -> None:
    def stream() -> Iterator[RefineTask | None]:
        yield task("a", seed=1)
        yield None
        yield None
        yield task("b", seed=2)

    assert set(by_key(refiner(tau=1000.0, rounds=5).run(stream()))) == {"a", "b"}
