"""Parity with the model as it was: output and gradient, on statistics that are not those of a fresh batch norm."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from synood_ray.models.frozen import speed_up


def _frozen(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                assert tensor is not None
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return model.eval().requires_grad_(False)


def _norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def _images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_a_convolution_and_its_norm_by_hand() -> None:
    model = _frozen(nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0)))
    convolution, norm = model[0], model[1]
    convolution.weight.fill_(2.0)
    norm.running_mean.fill_(3.0), norm.running_var.fill_(4.0), norm.weight.fill_(5.0), norm.bias.fill_(6.0)
    folded = speed_up(model, torch.ones(1, 1, 1, 1))
    assert _norms(folded) == 0
    assert float(folded(torch.full((1, 1, 1, 1), 7.0))) == (2.0 * 7.0 - 3.0) / 2.0 * 5.0 + 6.0


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050"])
@pytest.mark.parametrize("count", [1, 5, 17])  # torch has other kernels for fewer than 16 images
def test_the_same_function_and_gradient(name: str, count: int) -> None:
    torch.manual_seed(0)
    model = _frozen(timm.create_model(name, num_classes=5))
    folded = speed_up(model, torch.zeros(1, 3, 32, 32))
    assert _norms(model) > 0 and _norms(folded) == 0
    answers = []
    for one in (model, folded):
        images = _images(count).requires_grad_(True)
        logits = one(images)
        (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
        answers.append((logits.detach(), gradient))
    (logits, gradient), (folded_logits, folded_gradient) = answers
    assert (folded_logits - logits).norm() < 1e-4 * logits.norm()
    difference = (folded_gradient - gradient).flatten(1).norm(dim=1) / gradient.flatten(1).norm(dim=1)
    assert difference.median() < 1e-4
    assert difference.max() < 0.1  # rounding may take a ReLU at its kink across


def test_a_model_without_batch_norms_is_returned_itself() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)).eval()
    assert speed_up(model, _images()) is model


class _Preactivated(nn.Module):
    """A convolution that is read twice: by its batch norm and by the shortcut around it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem(images)
        return x + self.norm(x)


def test_what_cannot_be_folded_stays_whole() -> None:
    model = _frozen(_Preactivated())
    before = model(_images())
    kept = speed_up(model, _images())
    assert kept is model and _norms(kept) == 1
    assert torch.equal(kept(_images()), before)
