"""Where a model runs and in which precision, when the settings say ``auto``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synood_ray.errors import UserError

if TYPE_CHECKING:
    import torch


def choose_device(device: str) -> torch.device:
    """The device for ``auto | cpu | cuda``; raises UserError if a GPU is asked for and there is none."""
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device is 'cuda', but torch sees no GPU here; use 'auto' or 'cpu'")
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
