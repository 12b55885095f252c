"""Muon for matrices and convolutions, Adam for the rest: at these sizes it needs far fewer steps than Adam alone.

Momentum is orthogonalised by a quintic Newton-Schulz iteration (Jordan et al., "Muon: an optimizer for hidden layers in
neural networks", 2024); the update is scaled to Adam's usual size (Liu et al., "Muon is scalable for LLM training",
2025), so both kinds share one scale of learning rates. torch's own ``Muon`` takes no convolutions.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5


def orthogonalised(matrix: Tensor) -> Tensor:
    """An approximation of U V' for ``matrix`` = U S V': float [M, N] -> same shape and dtype (computed in bfloat16)."""
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16()
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.T).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """One optimiser over named parameters: Muon where a weight has two or more dimensions (embeddings excepted).

    ``rates``: learning rates of (Muon, Adam); ``param_groups[0]`` and ``[1]`` hold them. Weight decay is decoupled.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, torch.nn.Parameter]],
        rates: tuple[float, float],
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        matrices: list[torch.nn.Parameter] = []
        rest: list[torch.nn.Parameter] = []
        for name, parameter in named:
            if parameter.requires_grad:
                (matrices if parameter.ndim >= 2 and "embedding" not in name else rest).append(parameter)
        defaults: dict[str, Any] = {"weight_decay": weight_decay, "betas": betas}
        groups = [
            {"params": matrices, "lr": rates[0], "matrices": True},
            {"params": rest, "lr": rates[1], "matrices": False, "weight_decay": 0.0},
        ]
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            update = self._muon if group["matrices"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(group["lr"] * update(parameter, group))

    def _muon(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(parameter.grad, 0.05)
        looked_ahead = parameter.grad.lerp(momentum, 0.95)
        matrix = orthogonalised(looked_ahead.flatten(1))
        return matrix.view_as(parameter) * (0.2 * max(matrix.shape) ** 0.5)

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        assert parameter.grad is not None
        state, (b1, b2) = self.state[parameter], group["betas"]
        if not state:
            state |= {
                "step": torch.zeros(()),
                "mean": torch.zeros_like(parameter),
                "square": torch.zeros_like(parameter),
            }
        state["step"] += 1
        mean = state["mean"].lerp_(parameter.grad, 1 - b1) / (1 - b1 ** state["step"])
        square = state["square"].lerp_(parameter.grad.square(), 1 - b2) / (1 - b2 ** state["step"])
        return mean / (square.sqrt() + 1e-8)
