"""Networks run on batches of one size only: a batch of another size rounds differently, and a sample with it.

On a CPU the place in such a batch and the neighbours do not matter to a row, as long as every thread has whole images
(`benchmarks/batches.py` measures that bit by bit). So a sample's bytes depend on its task, the models, the settings and
`arithmetic`, and not on what else was in work beside it. On GPUs that was not measured: some gradients there add up in
no fixed order.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from synood_ray.config.models import InpainterSettings
from synood_ray.models.devices import choose_denoiser_dtype

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def full_size(asked: int) -> int:
    """Rows of every batch: ``asked``, or so many more that this process's threads have equally many."""
    import torch

    threads = torch.get_num_threads()
    return -(-asked // threads) * threads


def filled(some: list[T], size: int) -> list[T]:
    """1 to ``size`` items as exactly ``size`` of them: the last one stands in for what is missing."""
    return some + some[-1:] * (size - len(some))


def in_full(items: Iterable[T], size: int) -> Iterator[tuple[list[T], int]]:
    """Items in lists of ``size``, the last one `filled`, each with the number of its own items."""
    stream = iter(items)
    while some := list(islice(stream, size)):
        yield filled(some, size), len(some)


def arithmetic(settings: InpainterSettings, device: torch.device, size: int) -> str:
    """What decides how a sample's numbers are rounded, beside the models: machine, library, precision, batch.

    settings, device: of the inpainter; size: of the batches. On CPUs, equal tasks under equal settings and equal words
    here have equal bytes.
    """
    import torch

    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    else:
        found: dict[str, str] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch that will do
        kernels = torch.backends.cpu.get_cpu_capability()  # AVX2 and AVX512 add in another order
        machine = f"{found.get('cpu_name') or platform.machine()} {kernels} x {torch.get_num_threads()}"
    precision = str(choose_denoiser_dtype(settings.dtype, device)).removeprefix("torch.")
    return f"{machine}, torch {torch.__version__}, {precision}, batches of {size}"
