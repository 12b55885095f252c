"""CLIPs small enough for a test: one without a network, one that is a real open_clip folder."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

WIDTH = 16
TINY: dict[str, Any] = {
    "embed_dim": WIDTH,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
"""An open_clip architecture: 32 px, one layer a tower."""


class ColourClip:
    """An image encoder whose features are a fixed linear map of the mean colour; texts are hashed into directions."""

    device = torch.device("cpu")
    preprocess = SimpleNamespace(size=8)

    def __init__(self, seed: int = 0) -> None:
        self.colours = 5 * torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(seed))

    def encode_images(self, images: Tensor) -> Tensor:
        return (images.mean(dim=(2, 3)) - 0.5) @ self.colours

    def encode_text(self, prompts: list[str]) -> Tensor:
        seeds = [int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big") for prompt in prompts]
        rows = [torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return F.normalize(torch.stack(rows), dim=-1)

    def encode_classes(self, names: list[str], templates: list[str]) -> Tensor:
        return F.normalize(
            torch.stack([self.encode_text([t.format(n) for n in names]) for t in templates]).mean(0), dim=-1
        )


def save_tiny_clip(folder: Path, seed: int = 0) -> Path:
    """A random open_clip model (`TINY`) as a folder that `ClipModel` loads."""
    import open_clip
    from safetensors.torch import save_file

    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    torch.manual_seed(seed)
    model = open_clip.CLIP(**TINY)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": preprocess}))
    return folder
