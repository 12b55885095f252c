"""What a frozen convolutional network may be turned into: the same function in fewer and faster operations."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

TOLERANCE = 1e-3  # of the largest output: rounding is a hundred times smaller, a wrong fold far larger


def speed_up(model: nn.Module, example: Tensor) -> nn.Module:
    """The same function without the batch norms that read a convolution's output: a copy, or ``model`` as it is.

    model: frozen, in eval mode, float32; example: any input of it. One forward pass of the example shows which batch
    norm reads what, whatever the modules are called. Where something else reads that convolution too (the first
    block of a pre-activation ResNet), the copy answers differently, and the model stays whole. timm's batch norms
    carry their activation, which is kept. Convolutions with a 1x1 kernel get the faster kernel (`_take_fast_kernel`).
    """
    import torch
    from torch import nn

    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    folded = copy.deepcopy(model)
    pairs, expected = _watch(folded, example)
    names = {module: name for name, module in folded.named_modules()}
    for convolution, norm in pairs:
        fused = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
        convolution.weight, convolution.bias = fused.weight, fused.bias
        rest = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part is not None]
        folded.set_submodule(names[norm], nn.Sequential(*rest))
    for module in folded.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.register_forward_pre_hook(_take_fast_kernel)
    with torch.inference_mode():
        difference = (folded(example) - expected).abs().max()
    return folded if difference <= TOLERANCE * expected.abs().max() else model


def _watch(model: nn.Module, example: Tensor) -> tuple[list[tuple[nn.Conv2d, nn.BatchNorm2d]], Tensor]:
    """Every batch norm with the convolution whose output it reads, and what the model says to the example."""
    import torch
    from torch import nn

    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensor is kept, so that no other takes over its id
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            outputs[id(output)] = module, output
        elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in outputs:
            pairs.append((outputs[id(inputs[0])][0], module))

    watched = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    hooks = [module.register_forward_hook(watch) for module in watched]
    with torch.inference_mode():
        result = model(example)
    for hook in hooks:
        hook.remove()
    return pairs, result


def _take_fast_kernel(convolution: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
    """On one CPU thread, torch gives a 1x1 convolution of 2 to 15 images to a slower kernel.

    Not so a dilated one; and a kernel of one pixel is the same, however far apart its pixels are.
    """
    slow = inputs[0].device.type == "cpu" and 1 < len(inputs[0]) < 16
    convolution.dilation = (2, 2) if slow else (1, 1)
