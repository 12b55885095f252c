import threading

import pytest

from synood_ray.sampling.engine import RefineEngine
from synood_ray.sampling.sample import Refined
from tests.sampling.test_refine import refiner, task
from tests.sampling.worlds import LinearInpainter


def test_units_of_several_threads_share_the_engine() -> None:
    engine = RefineEngine(refiner(batch_size=4))
    answers: dict[int, list[str]] = {}

    def unit(number: int) -> None:
        results = engine.submit([task(f"{number}-{i}", seed=i) for i in range(7)])
        answers[number] = [result.key for result in results if isinstance(result, Refined)]

    threads = [threading.Thread(target=unit, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.close()
    assert answers == {number: [f"{number}-{i}" for i in range(7)] for number in range(5)}


def test_one_bad_sample_does_not_take_its_batch_with_it() -> None:
    inpainter = LinearInpainter()
    inpainter.fail_on = 0.75
    engine = RefineEngine(refiner(inpainter, batch_size=4))
    levels = [0.5, 0.75, 0.25, 0.5, 0.125, 0.375]
    results = engine.submit([task(str(i), level=level, seed=i) for i, level in enumerate(levels)])
    engine.close()
    assert [isinstance(result, Exception) for result in results] == [level == 0.75 for level in levels]


def test_a_key_in_work_is_refused() -> None:
    engine = RefineEngine(refiner())
    with pytest.raises(ValueError, match="in work"):
        engine.submit([task("a"), task("a")])
    engine.close()
