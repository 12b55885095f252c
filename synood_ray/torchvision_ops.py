"""Lets torchvision's ordinary wheel be imported beside a CPU build of torch.

That wheel's compiled library links CUDA and cannot load without it, and `import torchvision` then dies with
"operator torchvision::nms does not exist", because it registers fake kernels for operators that the library
would have declared. Declaring their schemas first is all it needs: transforms, models and open_clip work;
`torchvision.ops.nms` itself still raises, and nothing here uses it.

torch calls every entry point of the group ``torch.backends`` at the end of ``import torch``. pyproject.toml
names `declare` there, so the cure reaches each process that imports torch: Ray workers and vLLM's children too.
"""

from __future__ import annotations

from typing import Any

_library: Any = None  # the declarations live as long as this object


def declare() -> None:
    """Declare torchvision's two operators where torch has neither CUDA nor ROCm; otherwise do nothing."""
    global _library
    import torch

    if _library is not None or torch.version.cuda or torch.version.hip:
        return
    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
