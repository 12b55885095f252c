"""Workers that add their tensors over torch.distributed (gloo on CPUs, NCCL on GPUs)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed
from torch import Tensor

from synood_ray.training.finetune import Workers


@dataclass(frozen=True)
class TorchWorkers(Workers):
    """The workers of the process group that Ray Train has set up."""

    def sum(self, tensors: list[Tensor]) -> None:
        if self.size == 1:
            return
        on_gpu = torch.distributed.get_backend() == "nccl"
        for tensor in tensors:
            moved = tensor.cuda() if on_gpu and not tensor.is_cuda else tensor
            torch.distributed.all_reduce(moved)
            if moved is not tensor:
                tensor.copy_(moved)
