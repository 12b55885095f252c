"""Where a model runs and in which precision, when the settings say ``auto``."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import TYPE_CHECKING

from synood_ray.errors import UserError

if TYPE_CHECKING:
    import torch


def choose_device(device: str) -> torch.device:
    """The device for ``auto | cpu | cuda``; raises UserError if a GPU is asked for and there is none."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device is 'cuda', but torch sees no GPU here; use 'auto' or 'cpu'")
    if device == "cpu":
        prepare_cpu()
    return torch.device(device)


def choose_dtype(dtype: str, device: torch.device, on_gpu: str = "bfloat16") -> torch.dtype:
    """The precision for ``auto | float32 | bfloat16 | float16``: float32 on a CPU, ``on_gpu`` on a GPU."""
    import torch

    name = dtype if dtype != "auto" else (on_gpu if device.type == "cuda" else "float32")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def choose_denoiser_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """As `choose_dtype`, but ``auto`` is bfloat16 on a CPU too where it multiplies that natively: twice as fast.

    The denoiser forgives rounding, the next step sees its result; decoder and scorer, whose gradients count, do not.
    """
    import torch

    if dtype == "auto" and device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    return choose_dtype(dtype, device)


@functools.cache
def prepare_cpu() -> None:
    """Tell this process's libraries what a refinement loop is like: large tensors, and a new batch size every round.

    glibc keeps up to 2 GiB of what tensors free, instead of giving it back and faulting it in again a moment later.
    oneDNN compiles each operation for each batch size, and keeps 8,192 of them, not 1,024: with fewer it compiles them
    again and again. It reads that when its first operation runs; who has set it keeps their own value.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        mallopt(mmap_threshold, 1 << 26)
        mallopt(trim_threshold, (1 << 31) - 1)
