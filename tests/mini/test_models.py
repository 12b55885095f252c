"""The shipped models load offline with the stock loaders and have the promised sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from synood_ray.mini import model_path
from tools.mini_world.check import megabytes

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (model_path("clip") / "open_clip_model.safetensors").exists(), reason="models not built"),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)


def test_clip_names_a_scene_and_encodes_any_string() -> None:
    import open_clip
    from torch.nn import functional as F

    from synood_ray.mini.world import load_world
    from tools.mini_world.check import read_images

    source = f"local-dir:{model_path('clip')}"
    model, _, preprocess = open_clip.create_model_and_transforms(source)
    tokenizer = open_clip.get_tokenizer(source)
    assert isinstance(model, open_clip.CLIP)
    model.eval()
    tokens = tokenizer(["a photo of a fox.", "Ünïcödé 漢字 " * 40, ""])
    assert model.encode_text(tokens).isfinite().all()
    data = read_images("id_test")
    names = list(load_world().id)
    text = F.normalize(model.encode_text(tokenizer([f"a photo of a {n}." for n in names])), dim=-1)
    from torchvision.transforms.functional import to_pil_image

    images = torch.stack([preprocess(to_pil_image(i)) for i in data.images[::8]])
    right = (model.encode_image(images) @ text.T).argmax(1) == data.labels[::8]
    assert right.float().mean() > 0.65


def test_inpainting_is_the_stock_pipeline_and_keeps_what_is_not_masked() -> None:
    from diffusers import StableDiffusionInpaintPipeline

    from tools.mini_world.check import read_images
    from tools.mini_world.check_inpainting import inpaint, load_pipeline, square_masks

    loaded = load_pipeline()
    assert type(loaded) is StableDiffusionInpaintPipeline
    pipeline: Any = loaded
    assert {p.dtype for p in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
    data = read_images("id_test")
    masks = square_masks(data.boxes[:4])
    drawn = inpaint(pipeline, data.images[:4], masks, ["A photo of bus, key."] * 4)
    change = (drawn.float() - data.images[:4].float()).abs()
    outside = masks.expand_as(change) < 0.5
    assert change[outside].mean() < 8 < 16 < change[~outside].mean()  # of 255


@pytest.mark.parametrize(("model", "limit"), [("clip", 12 + 4), ("inpainting", 20)])
def test_sizes(model: str, limit: float) -> None:
    folder: Path = model_path(model)
    assert megabytes(folder) <= limit  # with the heads of two sibling seeds, and with tokenizers
