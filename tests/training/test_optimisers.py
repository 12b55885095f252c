"""The optimisers move like torch.optim's, bit by bit, whatever the rate of a step and where they go on from."""

import copy

import pytest
import torch
from torch import Tensor

from synood_ray.training.optimisers import Adam, Optimiser, Sgd

CASES = {
    "adam": (lambda p: Adam(p, 0.1, 0.0), lambda p: torch.optim.Adam(p, 0.1)),
    "adam with decay": (lambda p: Adam(p, 0.1, 0.02), lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.02)),
    "sgd": (lambda p: Sgd(p, 0.1, 0.0, 0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "sgd with decay": (
        lambda p: Sgd(p, 0.1, 0.02, 0.9),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.02),
    ),
}


def _parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((7, 5), (5,), ())]


def _loss(parameters: list[Tensor]) -> Tensor:
    return sum(((p - 0.3) ** 4 + p.sin()).sum() for p in parameters)  # type: ignore[return-value]


@pytest.mark.parametrize("name", CASES)
def test_steps_are_torchs(name: str) -> None:
    ours, theirs = (make(_parameters()) for make in CASES[name])
    assert isinstance(ours, Optimiser)
    for step in range(20):
        rate = 0.1 / (1 + step)
        ours.lr = theirs.param_groups[0]["lr"] = rate
        if step == 10:  # goes on from what was kept
            fresh = CASES[name][0](ours.parameters)
            fresh.lr, fresh.state = rate, copy.deepcopy(ours.state)
            ours = fresh
        for optimiser, parameters in ((ours, ours.parameters), (theirs, theirs.param_groups[0]["params"])):
            optimiser.zero_grad()
            _loss(parameters).backward()
            optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters, theirs.param_groups[0]["params"], strict=True))
    kept = theirs.state_dict()["state"]
    assert [set(each) for each in ours.state] == [{k for k, v in kept[i].items() if v is not None} for i in kept]
