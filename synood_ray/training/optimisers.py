"""Adam and SGD as torch.optim has them, bit by bit, for a few small tensors.

torch.optim imports torch's compiler at the first use, a second and a half: as much as a whole fine-tuning takes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

State = dict[str, Tensor]

BETAS = 0.9, 0.999
EPSILON = 1e-8


class Optimiser(ABC):
    """Parameters and the rate `lr` that `step` moves them with, which may be set before every step.

    weight_decay: as an L2 penalty, added to the gradients.
    """

    slots: ClassVar[tuple[str, ...]]
    """What it keeps of every parameter, a tensor each, beginning with zeros."""

    def __init__(self, parameters: Sequence[Tensor], lr: float, weight_decay: float) -> None:
        self.parameters, self.lr, self.weight_decay = list(parameters), lr, weight_decay
        self.state: list[State] = []

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter along its gradient."""
        self.state = self.state or [self._first(each) for each in self.parameters]
        for parameter, kept in zip(self.parameters, self.state, strict=True):
            assert parameter.grad is not None, "the trainer fills in what is missing"
            gradient = parameter.grad
            if self.weight_decay:
                gradient = gradient.add(parameter, alpha=self.weight_decay)
            self._move(parameter, gradient, kept)

    def zero_grad(self) -> None:
        """Gradients of 0, where there are any."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.zero_()

    def _first(self, parameter: Tensor) -> State:
        return {name: torch.zeros_like(parameter) for name in self.slots}

    @abstractmethod
    def _move(self, parameter: Tensor, gradient: Tensor, kept: State) -> None: ...


class Adam(Optimiser):
    """Kingma & Ba, ICLR 2015."""

    slots = ("exp_avg", "exp_avg_sq")

    def _first(self, parameter: Tensor) -> State:
        return super()._first(parameter) | {"step": torch.zeros(())}

    def _move(self, parameter: Tensor, gradient: Tensor, kept: State) -> None:
        kept["step"] += 1
        steps, (first, second) = kept["step"].item(), BETAS
        kept["exp_avg"].lerp_(gradient, 1 - first)
        kept["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        spread = (kept["exp_avg_sq"].sqrt() / (1 - second**steps) ** 0.5).add_(EPSILON)
        parameter.addcdiv_(kept["exp_avg"], spread, value=-self.lr / (1 - first**steps))


class Sgd(Optimiser):
    """Gradient descent with momentum."""

    slots = ("momentum_buffer",)

    def __init__(self, parameters: Sequence[Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum = momentum

    def _move(self, parameter: Tensor, gradient: Tensor, kept: State) -> None:
        kept["momentum_buffer"].mul_(self.momentum).add_(gradient)
        parameter.add_(kept["momentum_buffer"], alpha=-self.lr)
