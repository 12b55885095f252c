"""A linear probe on the frozen tower over the 224 ID and near names: who judges the inpaintings.

    python -m synood_ray.mini.referee

The shipped CLIP cannot: it is kept ignorant of near classes on purpose. The probe sees all names equally often, and
half of its scenes after a round trip through the VAE.
"""

import argparse
from pathlib import Path
from typing import Any

from synood_ray.mini import ROOT, model_path
from synood_ray.mini.render import CACHE
from synood_ray.mini.train_clip import features, preprocess, traced
from synood_ray.mini.world import TRAINING_STYLES, load_world

PATH = ROOT / "models" / "referee.safetensors"
SCENES = 96  # per name
SEED = 1_500_000_000


class Referee:
    """``top(images uint8 [N, 3, 64, 64])`` -> indices [N, 5] into ``names`` (ID, then near), best first."""

    def __init__(self) -> None:
        import open_clip
        from safetensors.torch import load_file

        self.trunk = open_clip.create_model(f"local-dir:{model_path('clip')}").float().eval().visual.trunk
        weights = load_file(PATH)
        self.weight, self.bias = weights["weight"].float(), weights["bias"].float()
        self.names = [*load_world().id, *load_world().near]

    def top(self, images: Any) -> Any:
        import torch

        with torch.no_grad():
            x = torch.cat([self.trunk(preprocess(part)) for part in images.split(128)])
        return (x @ self.weight.T + self.bias).topk(5, dim=1).indices


def train(cache: Path) -> None:
    import open_clip
    import torch
    from diffusers import AutoencoderKL
    from safetensors.torch import save_file

    from synood_ray.mini.scenes import SceneComposer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    composer = SceneComposer(cache)
    world = composer.world
    trunk = open_clip.create_model(f"local-dir:{model_path('clip')}").float().eval().visual.trunk
    vae = AutoencoderKL.from_pretrained(model_path("inpainting") / "vae").float().eval()
    names = [*world.id, *world.near] * SCENES
    with torch.no_grad():
        half = len(names) // 2
        clean = features(trunk, composer, names[:half], SEED, TRAINING_STYLES)
        fast, rows = traced(trunk), []
        for first in range(half, len(names), 128):
            images = composer.batch(names[first : min(first + 128, len(names))], SEED + first).images
            output = vae.decode(vae.encode(images.float() / 127.5 - 1).latent_dist.mean).sample
            rows.append(fast((output.clamp(-1, 1) + 1) * 127.5))
        x = torch.cat([clean, *rows]).float()
    y = torch.arange(len(world.id) + len(world.near)).repeat(SCENES)
    probe = torch.nn.Linear(x.shape[1], len(world.id) + len(world.near))
    optimiser = torch.optim.AdamW(probe.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(30):
        for rows_ in torch.randperm(len(x)).split(256):
            loss = torch.nn.functional.cross_entropy(probe(x[rows_]), y[rows_])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    print(f"last training loss {loss.item():.3f}")
    save_file({"weight": probe.weight.detach().half(), "bias": probe.bias.detach().half()}, PATH)
    PATH.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the sprites are")
    train(parser.parse_args().cache)


if __name__ == "__main__":
    main()
