"""What batches of one size give and cost: which networks answer a row bit by bit the same elsewhere in a batch, and the
sampler's CPU time beside a loop whose batches are as long as they come.

    python -m benchmarks.batches [--sizes 8,32] [--samples 230] [--turns 3]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.comparison import compare
from benchmarks.recipes import Bench
from synood_ray.cli.layers import load_preset, resolve

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.sampling.calibration import Calibration
    from synood_ray.sampling.sample import RefineTask

ROWS, ORDERS = 64, 3
UNIT, IN_FLIGHT = 32, 2  # samples a unit, and units in work at once, as the farm's settings have them


def differing(call: Callable[[Tensor], tuple[Tensor, ...]], size: int) -> int:
    """How many of `ROWS` rows have other bits in a batch of ``size`` with other neighbours and at another place.

    call: indices of rows -> what a network says of them.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    orders = [torch.arange(ROWS), *(torch.randperm(ROWS, generator=generator) for _ in range(ORDERS))]
    first, *others = (_in_order(call, order, size) for order in orders)
    moved = torch.zeros(ROWS, dtype=torch.bool)
    for other in others:
        for a, b in zip(first, other, strict=True):
            moved |= (a != b).reshape(ROWS, -1).any(1)
    return int(moved.sum())


def _in_order(call: Callable[[Tensor], tuple[Tensor, ...]], order: Tensor, size: int) -> list[Tensor]:
    import torch

    from synood_ray.sampling.batches import in_full

    parts = []
    for rows, count in in_full(order.tolist(), size):
        parts.append([found[:count].clone() for found in call(torch.tensor(rows))])
    return [torch.cat(column)[order.argsort()] for column in zip(*parts, strict=True)]


def networks(bench: Bench) -> dict[str, Callable[[Tensor], tuple[Tensor, ...]]]:
    """Every call of the loop that runs a network, on rows of the same data."""
    import torch

    from synood_ray.models.inpainters.base import Pass, Prompts

    inpainter, scorer = bench.inpainter, bench.scorer
    images, masks = (torch.stack([getattr(task, name) for task in bench.tasks]) for name in ("image", "mask"))
    canvas = inpainter.canvas(images, masks, 0.5)
    noise = torch.randn(canvas.latents.shape, generator=torch.Generator().manual_seed(0))
    embeds = Prompts.stack([task.painting.condition(inpainter.encode_prompt) for task in bench.tasks]).embeds
    scheduler = inpainter.scheduler("dpm++")

    def denoise(rows: Tensor, steps: int, strength: float, guidance: float) -> Tensor:
        prompts = Prompts(embeds[rows])
        return inpainter.denoise(
            Pass(canvas.latents[rows], noise[rows], canvas[rows], prompts, steps, strength, guidance, scheduler)
        )

    everything = torch.arange(ROWS)
    z = denoise(everything, 3, 1.0, 2.5)
    pictures = inpainter.decode(z)
    gradient = scorer.judge_with_gradient(pictures)[1]

    def steered(rows: Tensor) -> tuple[Tensor, ...]:
        decoded, pull_back = inpainter.decode_with_vjp(z[rows])
        return decoded, pull_back(gradient[rows])

    def encoded(rows: Tensor) -> tuple[Tensor, ...]:
        found = inpainter.canvas(images[rows], masks[rows], 0.5)
        return found.latents, found.masked

    def judged(rows: Tensor) -> tuple[Tensor, ...]:
        found, slope = scorer.judge_with_gradient(pictures[rows])
        return *found, slope

    return {
        "encode": encoded,
        "pass": lambda rows: (denoise(rows, 3, 1.0, 2.5),),
        "restart": lambda rows: (denoise(rows, 17, 0.06, 1.0),),
        "decode": lambda rows: (inpainter.decode(z[rows]),),
        "decode, gradient": steered,
        "judge": lambda rows: scorer.judge(pictures[rows]),
        "judge, gradient": judged,
    }


def seconds(bench: Bench, boundary: Calibration, work: list[RefineTask], size: int, full: bool) -> float:
    """CPU seconds for all of the work, in units as a sampler of the farm has them; full: in batches of one size."""
    from synood_ray.sampling.engine import RefineEngine
    from synood_ray.sampling.refine import Refiner

    units = [work[i : i + 2 * UNIT] for i in range(0, len(work), 2 * UNIT)]  # with their companions
    settings = bench.settings.sampling.model_copy(update={"batch_size": size})
    with _as_they_come(not full):
        refiner = Refiner(bench.inpainter, bench.scorer, boundary, settings)
        if not full:
            refiner.few = refiner.batch_size
        engine = RefineEngine(refiner)
        begin = time.process_time()
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            results = [one for unit in pool.map(engine.submit, units) for one in unit]
        took = time.process_time() - begin
        engine.close()
    assert not any(isinstance(result, Exception) for result in results)
    return took


@contextmanager
def _as_they_come(active: bool) -> Iterator[None]:
    """While it is active, the loop runs batches that are not filled up: what it did before version 0.3."""
    from synood_ray.sampling import refine

    fill: Any = refine.filled
    if active:
        refine.filled = lambda some, size: some
    try:
        yield
    finally:
        refine.filled = fill


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="8,32", help="batch sizes; the last also as its batches come")
    parser.add_argument("--samples", type=int, default=230)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    sizes = [int(size) for size in args.sizes.split(",")]
    torch.set_num_threads(1)
    settings, _ = resolve([load_preset("mini")])
    bench = Bench(settings, max(ROWS, args.samples), draws=2)
    boundary = bench.calibrate(bench.scorer)
    work = []
    for task in bench.tasks[: args.samples]:
        work += [task, dataclasses.replace(task, key=f"{task.key}+id", seed=task.seed + 1, refine=False)]
    bench.tasks = bench.tasks[:ROWS]
    for size in sizes:
        for name, call in networks(bench).items():
            print(f"batches of {size}, {name}: {differing(call, size)} of {ROWS} rows differ elsewhere", flush=True)
    cases = [*((size, True) for size in sizes), (sizes[-1], False)]
    for case in cases:
        seconds(bench, boundary, work[: 4 * UNIT], *case)  # oneDNN compiles every operation for every batch size
    rates: dict[tuple[int, bool], list[float]] = {case: [] for case in cases}
    for _ in range(args.turns):
        for case, found in rates.items():
            found.append(args.samples / seconds(bench, boundary, work, *case))
    for size in sizes:
        print(f"samples per CPU second, batches of {size} / up to {sizes[-1]}: ", end="")
        print(compare(rates[size, True], rates[sizes[-1], False]), flush=True)


if __name__ == "__main__":
    main()
