"""The scorer: CLIP (or a plain classifier) that says how in-distribution an image is, and in which direction.

Everything is frozen and differentiable with respect to the image: resizing and normalisation are part of the
chain, so that dScore/dImage can be carried on through the inpainter's decoder.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol, cast

from synood_ray.config.settings import ScorerSettings
from synood_ray.errors import UserError
from synood_ray.locations import is_folder, resolve
from synood_ray.models.devices import choose_device, choose_dtype
from synood_ray.models.frozen import speed_up
from synood_ray.scores import formulas as scores

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LOGIT_SCALE = 100.0  # logits are 100 cos, whatever temperature the checkpoint learned (NegLabel, MCM, SynOOD)
TIMM = "timm:"
OFFICIAL_TARGET = -5.0  # the released recipe's target of E' = mean(l) - logsumexp(l); E' <= -ln C, so out of reach


def official_loss(logits: Tensor) -> Tensor:
    """The released loss (-5 - E')^2 a sample [B], from class logits [B, C]; E' = mean(l) - logsumexp(l)."""
    energy = logits.mean(-1) - logits.logsumexp(-1)
    return (OFFICIAL_TARGET - energy).square()


class Classifier(Protocol):
    """What gives class logits: [B, 3, H, W] in [0, 1] -> [B, C]."""

    def logits(self, images: Tensor) -> Tensor: ...


class ClipModel:
    """A frozen open_clip model with its tokenizer.

    settings.model: an open_clip architecture (with `pretrained`), ``hf-hub:ID``, or a folder that holds
    ``open_clip_config.json``, weights and tokenizer.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        import open_clip
        import torch

        name = settings.model
        folder = is_folder(name)
        if folder:
            name = f"local-dir:{resolve(name)}"
        try:
            pretrained = None if folder else settings.pretrained
            model, _, _ = open_clip.create_model_and_transforms(name, pretrained=pretrained)
            self.tokenizer = open_clip.get_tokenizer(name)
        except (RuntimeError, FileNotFoundError, OSError) as error:
            raise UserError(f"scorer.model {settings.model!r} cannot be loaded: {_first_line(error)}") from error
        self.device = choose_device(settings.device)
        self.dtype = choose_dtype(settings.dtype, self.device, on_gpu="float32")
        self.preprocess = Preprocess.from_clip(model.visual, self.device)
        self.model = model.eval().requires_grad_(False)
        self.model.visual = speed_up(self.model.visual, torch.zeros(1, 3, *2 * [self.preprocess.size]))
        # channels_last: convolutions take half the time on a CPU, and no more on a GPU
        self.model.to(self.device, self.dtype).to(memory_format=torch.channels_last)

    def encode_images(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] -> un-normalised features [B, D] float32; differentiable."""
        return self.model.encode_image(self.preprocess(images.to(self.device)).to(self.dtype)).float()

    def encode_text(self, prompts: list[str], batch_size: int = 512) -> Tensor:
        """Prompts -> L2-normalised features [N, D] float32."""
        import torch
        from torch.nn import functional as F

        with torch.no_grad():
            parts = [
                self.model.encode_text(self.tokenizer(prompts[i : i + batch_size]).to(self.device)).float()
                for i in range(0, len(prompts), batch_size)
            ]
        return F.normalize(torch.cat(parts), dim=-1)

    def encode_classes(self, names: list[str], templates: list[str]) -> Tensor:
        """Class names -> the normalised mean over templates of their normalised text features [C, D]."""
        import torch
        from torch.nn import functional as F

        features = [self.encode_text([template.format(name) for name in names]) for template in templates]
        return F.normalize(torch.stack(features).mean(0), dim=-1)


class Preprocess:
    """Resize to the model's square input (bicubic, antialiased) and normalise; differentiable."""

    def __init__(self, size: int, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> None:
        import torch

        self.size = size
        self.mean = torch.tensor(mean, device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, -1, 1, 1)

    @classmethod
    def from_clip(cls, visual: torch.nn.Module, device: torch.device) -> Preprocess:
        config = cast("dict[str, Any]", visual.preprocess_cfg)
        size = config["size"]
        side = size if isinstance(size, int) else size[0]
        return cls(side, tuple(config["mean"]), tuple(config["std"]), device)

    def __call__(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if (height, width) != (self.size, self.size):
            # Resizing is linear in rows and in columns; as two products it and its gradient are cheaper on a CPU.
            rows, columns = (bicubic(side, self.size, images.device).to(images.dtype) for side in (height, width))
            images = (rows @ images @ columns.T).clamp(0, 1)  # bicubic overshoots; 8-bit images cannot
        return (images - self.mean) / self.std


@functools.cache
def bicubic(side: int, size: int, device: torch.device) -> Tensor:
    """What `torch.nn.functional.interpolate` does to rows, as a matrix [size, side]; antialiased where it shrinks."""
    import torch
    from torch.nn import functional as F

    with torch.inference_mode(False):  # it is remembered, and a gradient may want it
        one = torch.eye(side, device=device)[None, None]
        return F.interpolate(one, size=(size, side), mode="bicubic", antialias=side > size)[0, 0]


class ClipClassifier:
    """Zero-shot class logits of a CLIP: 100 cos between image and class texts."""

    def __init__(self, clip: ClipModel, class_features: Tensor) -> None:
        self.clip = clip
        self.class_features = class_features.to(clip.device)

    def logits(self, images: Tensor) -> Tensor:
        from torch.nn import functional as F

        return LOGIT_SCALE * F.normalize(self.clip.encode_images(images), dim=-1) @ self.class_features.T


class TimmClassifier:
    """Logits of a timm classifier, which torchvision's are among (the paper scores with ``resnet50.tv2_in1k``).

    settings.model: ``timm:`` and a timm name, ``hf-hub:ID``, or a folder as `timm.models.save_for_hf` writes it. Its
    columns are reordered to the run's class names by the ``label_names`` of its configuration; a model without these
    must have exactly the run's classes, in the run's order (the order of ImageNet's folders).
    """

    def __init__(self, settings: ScorerSettings, class_names: list[str]) -> None:
        import timm
        import torch

        name = settings.model.removeprefix(TIMM)
        try:
            model: Any = timm.create_model(f"local-dir:{resolve(name)}" if is_folder(name) else name, pretrained=True)
        except (RuntimeError, OSError, KeyError, ValueError) as error:
            raise UserError(f"scorer.model {settings.model!r} cannot be loaded: {_first_line(error)}") from error
        config = model.pretrained_cfg
        columns = _columns(config.get("label_names"), model.num_classes, class_names, settings.model)
        side = config["input_size"][-1]
        self.device = choose_device(settings.device)
        self.dtype = choose_dtype(settings.dtype, self.device, on_gpu="float32")
        model = speed_up(model.eval().requires_grad_(False), torch.zeros(1, 3, side, side))
        self.model = model.to(self.device, self.dtype).to(memory_format=torch.channels_last)
        self.columns = torch.tensor(columns, device=self.device)
        self.preprocess = Preprocess(side, tuple(config["mean"]), tuple(config["std"]), self.device)

    def logits(self, images: Tensor) -> Tensor:
        logits = self.model(self.preprocess(images.to(self.device)).to(self.dtype)).float()
        return logits[:, self.columns]


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


class Scorer:
    """S(x), the OOD score (higher = more ID), and its gradient with respect to the image.

    negatives: L2-normalised negative-label features [M, D], needed for ``score: neglabel`` and `verdicts`.
    """

    def __init__(
        self, settings: ScorerSettings, class_names: list[str], negatives: Tensor | None = None, groups: int = 100
    ) -> None:
        self.settings = settings
        self.groups = groups
        self.class_names = class_names
        self.clip: ClipModel | None = None
        self.classifier: Classifier
        if settings.model.startswith(TIMM):
            if settings.score == "neglabel":
                raise UserError("scorer.score 'neglabel' needs a CLIP, but scorer.model names a classifier")
            self.classifier = TimmClassifier(settings, class_names)
        else:
            self.clip = ClipModel(settings)
            self.classifier = ClipClassifier(self.clip, self.clip.encode_classes(class_names, settings.templates))
        self.negatives = negatives

    def logits(self, images: Tensor) -> Tensor:
        """Class logits [B, C] of images [B, 3, H, W] in [0, 1]; differentiable."""
        return self.classifier.logits(images)

    def differentiable_score(self, images: Tensor) -> Tensor:
        """S(x) [B] with the graph that leads back to the images."""
        if self.settings.score == "neglabel":
            return scores.neglabel_score(*self._clip_logits(images), groups=self.groups)
        return self._from_logits(self.logits(images))

    def _from_logits(self, logits: Tensor) -> Tensor:
        score = scores.energy if self.settings.score == "energy" else scores.msp
        return score(logits, self.settings.temperature)

    def score(self, images: Tensor) -> Tensor:
        """S(x) [B] float32 of images [B, 3, H, W] in [0, 1]."""
        import torch

        with torch.inference_mode():
            return self.differentiable_score(images)

    def score_and_gradient(self, images: Tensor, objective: str = "score") -> tuple[Tensor, Tensor]:
        """S(x) [B] and the gradient [B, 3, H, W] of the objective: every image has its own, whatever the batch.

        objective: "score" for dS/dx, "official" for the gradient of the released recipe's loss.
        """
        import torch

        with torch.enable_grad():
            images = images.detach().clone().requires_grad_(True)
            if objective == "official":
                logits = self.logits(images)
                value = official_loss(logits)
                score = self.score(images) if self.settings.score == "neglabel" else self._from_logits(logits)
            else:
                value = score = self.differentiable_score(images)
            (gradient,) = torch.autograd.grad(value.sum(), images)
        return score.detach(), gradient

    def verdicts(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What finished images [B, 3, H, W] show: their nearest negative labels, and whether still their own class.

        nearest: [B] int, index of the negative label with the largest cosine; -1 for a classifier, which has none.
        shows: [B] bool, the top-1 over ID classes and negative labels is the image's own class (labels [B] int).
        """
        import torch

        with torch.inference_mode():
            if self.negatives is None or self.clip is None:
                logits = self.logits(images)
                nearest = torch.full_like(labels, -1)
            else:
                id_logits, negative_logits = self._clip_logits(images)
                nearest = negative_logits.argmax(-1)
                logits = torch.cat([id_logits, negative_logits], dim=-1)
            return nearest, logits.argmax(-1) == labels.to(logits.device)

    def _clip_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        from torch.nn import functional as F

        if self.clip is None or self.negatives is None or not isinstance(self.classifier, ClipClassifier):
            raise ValueError("negative labels are needed; pass negatives to Scorer")
        features = LOGIT_SCALE * F.normalize(self.clip.encode_images(images), dim=-1)
        return features @ self.classifier.class_features.T, features @ self.negatives.to(features.device).T


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
