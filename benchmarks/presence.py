"""A small classifier of scenes with and without a subject: says of how many accepted images a thing is there.

It learns from the bundled scenes, each with its subject and with the subject taken out: where its box was, the soft
background is filled in from the edges. Both go through the VAE, as samples come out of it. It is judged on scenes of
other files, among them styles that it never saw. ``python -m benchmarks.presence RUN`` looks at a run's samples.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.inpainters.base import Inpainter

LEARNT = ("id_train", "id_val", "near_val", "far_val")
HELD_OUT = ("id_test", "near_test", "far_test", "id_unseen", "near_unseen")
EPOCHS, BATCH, RATE = 12, 64, 3e-3
PADDING = 3  # px around a subject's box: its soft edge goes with it
SWEEPS = 400  # of the filling, enough for the widest box


class Presence:
    """The trained classifier. right: share of held-out scenes, with and without alike, that it tells."""

    def __init__(self, inpainter: Inpainter, seed: int = 0) -> None:
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._net = _network()
            _train(self._net, *_scenes(LEARNT, inpainter))
        images, there = _scenes(HELD_OUT, inpainter)
        self.right = float(((self.logits(images) > 0) == there).double().mean())

    def share(self, images: Tensor) -> float:
        """Of how many of these images [N, 3, 64, 64], uint8 or in 0..1, it says that a subject is there."""
        pixels = images if images.is_floating_point() else images.float() / 255
        return float((self.logits(pixels) > 0).double().mean())

    def logits(self, images: Tensor) -> Tensor:
        import torch

        self._net.eval()
        with torch.inference_mode():
            return torch.cat([self._net(part).flatten() for part in images.split(256)])


def emptied(images: Tensor, boxes: Tensor) -> Tensor:
    """Scenes [N, 3, H, W] in 0..1 without what is in their boxes [N, 4]: the smoothest filling that meets its edges
    (the mean of its four neighbours everywhere)."""
    import torch
    from torch.nn import functional as F

    height, width = images.shape[-2:]
    rows, columns = torch.arange(height).view(1, height, 1), torch.arange(width).view(1, 1, width)
    x0, y0, x1, y1 = (
        (edge + step).view(-1, 1, 1)
        for edge, step in zip(boxes.unbind(1), (-PADDING, -PADDING, PADDING, PADDING), strict=True)
    )
    inside = ((rows >= y0) & (rows < y1) & (columns >= x0) & (columns < x1))[:, None]
    outside = images.masked_fill(inside, torch.nan).flatten(2).nanmean(-1)[..., None, None]
    filled = torch.where(inside, outside, images)
    for _ in range(SWEEPS):
        around = F.pad(filled, (1, 1, 1, 1), mode="replicate")
        mean = (around[..., :-2, 1:-1] + around[..., 2:, 1:-1] + around[..., 1:-1, :-2] + around[..., 1:-1, 2:]) / 4
        filled = torch.where(inside, mean, filled)
    return filled


def _scenes(names: tuple[str, ...], inpainter: Inpainter) -> tuple[Tensor, Tensor]:
    """Images [2 N, 3, 64, 64] through the VAE, with their subjects and without, and whether one is there."""
    import torch

    from tools.mini_world.check import read_images

    files = [read_images(name) for name in names]
    full = torch.cat([file.images for file in files]).float() / 255
    bare = torch.cat(
        [emptied(a, b) for a, b in zip(full.split(256), torch.cat([f.boxes for f in files]).split(256), strict=True)]
    )
    with torch.inference_mode():
        images = [inpainter.decode(inpainter.encode(part)).float() for part in torch.cat([full, bare]).split(32)]
    there = torch.arange(2 * len(full)) < len(full)
    return torch.cat(images).clone(), there


def _network() -> Any:
    from torch import nn

    layers: list[Any] = []
    for before, after in ((3, 24), (24, 48), (48, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 1))


def _train(net: Any, images: Tensor, there: Tensor) -> None:
    """Mirrored, shifted and with their colours changed: neither place nor colour is to tell."""
    import torch
    from torch.nn import functional as F

    steps = EPOCHS * (len(images) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(images), (BATCH,))
        x = images[rows][:, torch.randperm(3)]
        x = x.flip(-1) if torch.rand(()) < 0.5 else x
        left, top = torch.randint(0, 9, (2,)).tolist()
        x = F.pad(x, (4, 4, 4, 4), mode="replicate")[..., top : top + 64, left : left + 64]
        x = (x - 0.5) * (0.7 + 0.6 * torch.rand(BATCH, 1, 1, 1)) + 0.5 + 0.2 * (torch.rand(BATCH, 3, 1, 1) - 0.5)
        loss = F.binary_cross_entropy_with_logits(net(x).flatten(), there[rows].float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    net.eval()


def main(uri: str) -> None:
    """Print in what share of a run's samples a subject is there, by what became of them."""
    import numpy as np
    import torch

    from synood_ray.config.settings import from_stored
    from synood_ray.models.images import from_png
    from synood_ray.models.inpainters import open_inpainter
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store

    run = Run.open(open_store(uri, write=False))
    presence = Presence(open_inpainter(from_stored(run.config).inpainter))
    pictures: dict[str, list[Tensor]] = defaultdict(list)
    for row in run.samples():
        for kind, png in ((row.reject_reason or "accepted", row.image), ("companions", row.companion)):
            if png is not None:
                pictures[kind].append(torch.from_numpy(np.array(from_png(png))).permute(2, 0, 1))
    print(f"right on held-out scenes: {presence.right:.3f}")
    for kind, images in sorted(pictures.items()):
        print(f"{kind}: {presence.share(torch.stack(images)):.3f} of {len(images)}")


if __name__ == "__main__":
    main(sys.argv[1])
