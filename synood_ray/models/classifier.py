"""What gives class logits of an image: a CLIP with the classes' texts, or an ordinary classifier."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from synood_ray.config.models import TIMM, ScorerSettings
from synood_ray.errors import UserError, first_line
from synood_ray.locations import is_folder, resolve
from synood_ray.models.clip import ClipModel, Preprocess
from synood_ray.models.devices import choose_device, choose_dtype
from synood_ray.models.frozen import speed_up
from synood_ray.models.hub import HF_HUB
from synood_ray.scores import ScoreInput

if TYPE_CHECKING:
    from torch import Tensor


class Classifier(Protocol):
    """What a score looks at, of images [B, 3, H, W] in [0, 1]; differentiable.

    negatives: unit text features [M, D] of the negative labels; a classifier without text leaves them out.
    """

    def look(self, images: Tensor, negatives: Tensor | None = None) -> ScoreInput: ...


class ClipClassifier:
    """Zero-shot logits of a CLIP: 100 cos between image and texts. class_features: unit text features [C, D]."""

    def __init__(self, clip: ClipModel, class_features: Tensor) -> None:
        self.clip = clip
        self.class_features = class_features.to(clip.device)

    def look(self, images: Tensor, negatives: Tensor | None = None) -> ScoreInput:
        from torch.nn import functional as F

        unit = F.normalize(self.clip.encode_images(images), dim=-1)
        return ScoreInput.of_features(
            unit, self.class_features, None if negatives is None else negatives.to(unit.device)
        )


class TimmClassifier:
    """Logits of a timm classifier, which torchvision's are among (the paper scores with ``resnet50.tv2_in1k``).

    settings.model: ``timm:`` and a timm name, ``hf-hub:ID``, or a folder as `timm.models.save_for_hf` writes it. Its
    columns are reordered to the run's class names by the ``label_names`` of its configuration; a model without these
    must have exactly the run's classes, in the run's order (the order of ImageNet's folders). Images are resized and
    cut as timm does it for tests: torchvision's ResNet-50 sees the centre 224 pixels of 232, bilinear.
    """

    def __init__(self, settings: ScorerSettings, class_names: list[str]) -> None:
        import timm
        import torch

        name = settings.model.removeprefix(TIMM)
        try:
            if is_folder(name):
                name = f"local-dir:{resolve(name)}"
            elif name.startswith(HF_HUB) and settings.revision:
                name = f"{name}@{settings.revision}"
            model: Any = timm.create_model(name, pretrained=True)
        except (RuntimeError, OSError, KeyError, ValueError) as error:
            raise UserError(f"scorer.model {settings.model!r} cannot be loaded: {first_line(error)}") from error
        columns = _columns(model.pretrained_cfg.get("label_names"), model.num_classes, class_names, settings.model)
        config = timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg, use_test_size=True)
        side = config["input_size"][-1]
        self.device = choose_device(settings.device)
        self.dtype = choose_dtype(settings.dtype, self.device, on_gpu="float32")
        model = speed_up(model.eval().requires_grad_(False), torch.zeros(1, 3, side, side))
        self.model = model.to(self.device, self.dtype).to(memory_format=torch.channels_last)
        self.columns = torch.tensor(columns, device=self.device)
        self.preprocess = Preprocess(
            side,
            tuple(config["mean"]),
            tuple(config["std"]),
            self.device,
            resized=math.floor(side / config["crop_pct"]),
            mode=config["interpolation"],
        )

    def look(self, images: Tensor, negatives: Tensor | None = None) -> ScoreInput:
        logits = self.model(self.preprocess(images.to(self.device)).to(self.dtype)).float()
        return ScoreInput(logits[:, self.columns])


def _columns(known: list[str] | None, count: int, class_names: list[str], model: str) -> list[int]:
    """Where a classifier of ``count`` classes, with the names ``known``, has the run's classes. Raises UserError."""
    if known is None:
        if count != len(class_names):
            raise UserError(
                f"scorer.model {model!r} has {count} classes without names, the images have {len(class_names)}"
            )
        return list(range(count))
    missing = [name for name in class_names if name not in known]
    if missing:
        raise UserError(f"scorer.model {model!r} does not know the class {missing[0]!r}")
    return [known.index(name) for name in class_names]
