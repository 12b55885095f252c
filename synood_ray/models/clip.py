"""CLIP, frozen and differentiable with respect to the image: resizing and normalisation are part of the chain."""

from __future__ import annotations

import functools
import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synood_ray.config.models import ScorerSettings
from synood_ray.errors import UserError, first_line
from synood_ray.locations import is_folder, resolve
from synood_ray.models.devices import choose_device, choose_dtype
from synood_ray.models.frozen import speed_up
from synood_ray.models.hub import HF_HUB, open_clip_folder

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ClipModel:
    """A frozen open_clip model with its tokenizer.

    settings.model: an open_clip architecture (with `pretrained`), ``hf-hub:ID``, or a folder that holds
    ``open_clip_config.json``, weights and tokenizer.
    """

    def __init__(self, settings: ScorerSettings, built: Any = None) -> None:
        """built: a model that is in memory already; its tokenizer is that of the architecture settings.model."""
        import open_clip
        import torch

        self.settings, self._built = settings, built is not None
        if built is None:
            model, self.tokenizer = _load(settings)
        else:
            model, self.tokenizer = built, open_clip.get_tokenizer(settings.model)
        self.device = choose_device(settings.device)
        self.dtype = choose_dtype(settings.dtype, self.device, on_gpu="float32")
        self.preprocess = Preprocess.from_clip(model.visual, self.device)
        self.model = model.eval().requires_grad_(False)
        self.model.visual = speed_up(self.model.visual, torch.zeros(1, 3, *2 * [self.preprocess.size]))
        # channels_last: convolutions take half the time on a CPU, and no more on a GPU
        self.model.to(self.device, self.dtype).to(memory_format=torch.channels_last)

    @functools.cached_property
    def identity(self) -> str:
        """Hex sha256 of what decides the features: the files of a model folder, or the weights, the modules (whose
        activations have no weights) and the preprocessing; of the data type too."""
        import torch

        if is_folder(self.settings.model) and not self._built:
            return _folder_identity(resolve(self.settings.model), self.dtype)
        made, p = str(self.model), self.preprocess
        seen = p.size, p.resized, p.mode, p.mean.flatten().tolist(), p.std.flatten().tolist()
        digest = hashlib.sha256(repr((made, seen)).encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def encode_images(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] -> un-normalised features [B, D] float32; differentiable."""
        return self.model.encode_image(self.preprocess(images.to(self.device)).to(self.dtype)).float()

    def encode_text(self, prompts: list[str], batch_size: int = 512) -> Tensor:
        """Prompts -> L2-normalised features [N, D] float32."""
        from torch.nn import functional as F

        return F.normalize(self._text_features(prompts, batch_size), dim=-1)

    def text_norms(self, prompts: list[str], batch_size: int = 512) -> Tensor:
        """Prompts -> the length [N] float32 that their features have before they are normalised."""
        import torch

        return torch.linalg.vector_norm(self._text_features(prompts, batch_size), dim=-1)

    def _text_features(self, prompts: list[str], batch_size: int) -> Tensor:
        import torch

        with torch.no_grad():
            parts = [
                self.model.encode_text(self.tokenizer(prompts[i : i + batch_size]).to(self.device)).float()
                for i in range(0, len(prompts), batch_size)
            ]
        return torch.cat(parts)

    def encode_classes(self, names: list[str], templates: list[str]) -> Tensor:
        """Class names -> the normalised mean over templates of their normalised text features [C, D]."""
        import torch
        from torch.nn import functional as F

        features = [self.encode_text([template.format(name) for name in names]) for template in templates]
        return F.normalize(torch.stack(features).mean(0), dim=-1)


class ClipOnDemand:
    """As `ClipModel`, but loaded when something is encoded, or when only its weights say which model it is.

    Loading one takes seconds, most of them for importing open_clip with transformers and torchvision.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        self.settings = settings
        self.device = choose_device(settings.device)

    @functools.cached_property
    def loaded(self) -> ClipModel:
        return ClipModel(self.settings)

    @functools.cached_property
    def identity(self) -> str:
        if is_folder(self.settings.model):
            dtype = choose_dtype(self.settings.dtype, self.device, on_gpu="float32")
            return _folder_identity(resolve(self.settings.model), dtype)
        return self.loaded.identity

    @property
    def preprocess(self) -> Preprocess:
        return self.loaded.preprocess

    def encode_images(self, images: Tensor) -> Tensor:
        return self.loaded.encode_images(images)

    def encode_text(self, prompts: list[str]) -> Tensor:
        return self.loaded.encode_text(prompts)

    def text_norms(self, prompts: list[str]) -> Tensor:
        return self.loaded.text_norms(prompts)

    def encode_classes(self, names: list[str], templates: list[str]) -> Tensor:
        return self.loaded.encode_classes(names, templates)


_WEIGHTS = (".safetensors", ".bin", ".pth")
_PREFERRED = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
"""The weights that open_clip takes of a folder: the first of these, or else one of whatever weights there are."""
_SAID = (".json", ".txt", ".model")
"""Ends of the names of configurations, and of what tokenizers are made of."""


def _folder_identity(folder: str, dtype: torch.dtype) -> str:
    """Of a model in a folder: sha256 over the data type and over names and contents of the weights that are loaded, the
    configuration and the tokenizer. Other weights beside them and what is written about it do not matter."""
    files = {path.name: path for path in Path(folder).iterdir() if path.is_file()}
    weights = [name for name in files if name.endswith(_WEIGHTS)]
    taken = [name for name in _PREFERRED if name in files][:1] or weights
    names = sorted({*taken, *(name for name in files if name.endswith(_SAID))})
    looked = ((files[name], files[name].stat()) for name in names)
    return _files_identity(tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in looked), str(dtype))


@functools.lru_cache(8)
def _files_identity(files: tuple[tuple[Path, int, int], ...], dtype: str) -> str:
    """files: with sizes and times of change, so that a process reads each once."""
    digest = hashlib.sha256(dtype.encode())
    for path, size, _ in files:
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _load(settings: ScorerSettings) -> tuple[Any, Any]:
    """The model and its tokenizer. Raises UserError if they cannot be had."""
    import open_clip

    name = settings.model
    on_hub = name.startswith(HF_HUB)
    folder = is_folder(name)
    if folder:
        name = f"local-dir:{resolve(name)}"
    elif settings.pretrained is None and not on_hub:
        raise UserError(
            f"scorer.model {name!r} is an architecture without weights; name some with scorer.pretrained, such as "
            "openai, or give a folder or hf-hub:ID"
        )
    try:
        pretrained = None if folder or on_hub else settings.pretrained
        if on_hub and settings.revision:
            name = f"local-dir:{open_clip_folder(name.removeprefix(HF_HUB), settings.revision)}"
        model = open_clip.create_model(
            name,
            pretrained=pretrained,
            force_quick_gelu=_needs_quick_gelu(name, pretrained),
            require_pretrained=True,  # a model of random numbers calibrates and accepts like others
        )
        return model, open_clip.get_tokenizer(name)
    except (RuntimeError, FileNotFoundError, OSError) as error:
        raise UserError(f"scorer.model {settings.model!r} cannot be loaded: {first_line(error)}") from error


def _needs_quick_gelu(name: str, pretrained: str | None) -> bool:
    """Whether these weights were trained with QuickGELU, as OpenAI's were: open_clip builds plain GELU and only warns.

    False for a folder, a hub ID or a checkpoint file, which say themselves what they are.
    """
    import open_clip

    return pretrained is not None and bool(open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu"))


_FITS = {"squash": "squashed", "longest": "padded"}
"""open_clip's other ways to make an image square; of one that is square already they are all the same."""


class Preprocess:
    """Resize to the model's square input (bicubic, antialiased) and normalise; differentiable.

    size: of the input; resized: the side that images are resized to before the centre is cut out; None: it is size.
    """

    def __init__(
        self,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        resized: int | None = None,
        mode: str = "bicubic",
    ) -> None:
        import torch

        self.size, self.resized, self.mode = size, resized or size, mode
        self.mean = torch.tensor(mean, device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, -1, 1, 1)

    @classmethod
    def from_clip(cls, visual: torch.nn.Module, device: torch.device) -> Preprocess:
        """As open_clip's own transform of a square image. Raises UserError for a model whose input is not square."""
        config = cast("dict[str, Any]", visual.preprocess_cfg)
        size = config["size"]
        sides = (size, size) if isinstance(size, int) else tuple(size)
        if sides[0] != sides[1]:
            raise UserError(f"scorer.model: takes images of {sides[0]}x{sides[1]} pixels; only square ones can be made")
        fit = config.get("resize_mode") or "shortest"
        if fit != "shortest":
            warnings.warn(
                f"scorer.model has learned from {_FITS[fit]} images; here it sees the centre square of an image that "
                "is not square, as the inpainter does",
                stacklevel=2,
            )
        mode = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"
        return cls(sides[0], tuple(config["mean"]), tuple(config["std"]), device, mode=mode)

    def __call__(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if (height, width) != (self.resized, self.resized):
            # Resizing is linear in rows and in columns; as two products it and its gradient are cheaper on a CPU.
            rows, columns = (
                resizing(side, self.resized, images.device, self.mode).to(images.dtype) for side in (height, width)
            )
            images = (rows @ images @ columns.T).clamp(0, 1)  # bicubic overshoots; 8-bit images cannot
        if self.resized != self.size:
            first = round((self.resized - self.size) / 2)
            images = images[..., first : first + self.size, first : first + self.size]
        return (images - self.mean) / self.std


@functools.cache
def resizing(side: int, size: int, device: torch.device, mode: str = "bicubic") -> Tensor:
    """What `torch.nn.functional.interpolate` does to rows, as a matrix [size, side]; antialiased where it shrinks."""
    import torch
    from torch.nn import functional as F

    with torch.inference_mode(False):  # it is remembered, and a gradient may want it
        one = torch.eye(side, device=device)[None, None]
        return F.interpolate(one, size=(size, side), mode=mode, antialias=side > size)[0, 0]
