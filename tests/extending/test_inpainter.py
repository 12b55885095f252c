"""docs/extending.md, "An inpainter family", to the letter."""

from pathlib import Path

import pytest

from tests.extending.pages import follow, run

pytestmark = pytest.mark.slow

USE = """
import diffusers
import torch

from synood_ray.config.models import InpainterSettings
from synood_ray.models.inpainters import open_inpainter, take_apart
from synood_ray.models.inpainters.base import Pass

class ZeroedInpaintPipeline(diffusers.StableDiffusionInpaintPipeline):
    pass

settings = InpainterSettings(model="mini://models/inpainting", device="cpu", dtype="float32")
plain = open_inpainter(settings)
zeroed = take_apart(ZeroedInpaintPipeline(**plain.pipe.components, requires_safety_checker=False), settings)
assert type(zeroed).__name__ == "ZeroedDiffusion"
canvas = plain.canvas(torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64), strength=1.0)
noise = torch.randn(canvas.latents.shape)

def image(inpainter, guidance):
    walk = 3, 1.0, guidance, inpainter.scheduler("ddim")
    return inpainter.decode(inpainter.denoise(Pass(canvas.latents, noise, canvas, prompts, *walk)))

prompts = plain.encode_prompt("A photo of a moon.")
assert torch.equal(image(zeroed, 1.0), image(plain, 1.0))
assert not torch.allclose(image(zeroed, 2.0), image(plain, 2.0), atol=1e-3)
print("inpainted")
"""


def test_the_page_adds_a_family(tmp_path: Path) -> None:
    folder = follow("An inpainter family", tmp_path / "copy")
    assert run(folder, "-c", USE).strip() == "inpainted"
