"""Scenes with known truth for the multimodal LLM: which objects can be seen, and which patch shows which."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from tools.mini_world.scenes import SIDE, Layout, SceneComposer

PATCH = 8
VISIBLE = 30  # a context object counts as visible from this many changed pixels on (it has 100 to 250)
CHANGED = 10  # summed difference over the three channels, of 765, that counts as a changed pixel


@dataclass
class LabelledScenes:
    """B scenes: images uint8 [B, 3, 64, 64]; the subject's name or None; the visible context objects' names;
    patches int64 [B, 64]: what each 8x8 patch shows, an index into `SceneSource.classes` (row by row)."""

    images: torch.Tensor
    subjects: list[str | None]
    contexts: list[list[str]]
    patches: torch.Tensor


class SceneSource:
    """Draws random labelled scenes in the training styles.

    ``classes``: "nothing", the subjects (ID and near names), the context objects, "other" (any other concept, which
    stands as a subject in a tenth of the scenes so that the model has seen what it has no word for).
    """

    def __init__(self, composer: SceneComposer) -> None:
        self.composer = composer
        world = composer.world
        self.subjects = [*world.id, *world.near]
        self.contexts = list(world.context)
        self.classes = ["nothing", *self.subjects, *self.contexts, "other"]
        self._class = {name: i for i, name in enumerate(self.classes)}
        self.groups: dict[str, list[str]] = {}
        for name in self.subjects:
            self.groups.setdefault(world.concepts[name].group, []).append(name)
        self._others = [n for n in (*world.far, *world.other) if min(self._styles(n), default=9) < 4]

    def _styles(self, name: str) -> list[int]:
        from synood_ray.mini.world import STYLES

        return [STYLES.index(s) for s in self.composer.world.concepts[name].styles]

    def draw_subjects(self, count: int, rng: torch.Generator) -> list[str | None]:
        """Names for `batch`: 84 % ID or near, 10 % another concept, 6 % no subject."""
        kind = torch.rand(count, generator=rng).tolist()
        pick = torch.rand(count, generator=rng).tolist()
        return [
            self.subjects[int(p * len(self.subjects))]
            if k < 0.84
            else self._others[int(p * len(self._others))]
            if k < 0.94
            else None
            for k, p in zip(kind, pick, strict=True)
        ]

    def batch(self, names: list[str | None], seed: int) -> LabelledScenes:
        """One labelled scene per name.

        The composer says which context objects it drew but not where, so each scene is drawn with 0, 1, 2 and 3 of
        them (the same seed keeps everything else): what changes from one to the next is the object's visible part.
        """
        layers = [self.composer.batch(names, seed, layout=Layout(contexts=(n, n))) for n in range(4)]
        rng = torch.Generator().manual_seed(seed)
        number = torch.randint(1, 4, (len(names),), generator=rng)
        images = torch.stack([scenes.images for scenes in layers])
        label = torch.tensor([self._class.get(n or "nothing", len(self.classes) - 1) for n in names])
        pixels = torch.where(layers[0].alpha[:, 0] > 0.4, label[:, None, None], 0)
        contexts: list[list[str]] = [[] for _ in names]
        for slot in range(3):
            shown = (images[slot + 1].int() - images[slot].int()).abs().sum(1) > CHANGED
            shown &= (number > slot)[:, None, None] & (pixels == 0)
            for row, area in enumerate(shown.sum((1, 2)).tolist()):
                if area >= VISIBLE:
                    contexts[row].append(layers[3].contexts[row][slot])
            kind = torch.tensor([self._class[c[slot]] for c in layers[3].contexts])
            pixels = torch.where(shown, kind[:, None, None], pixels)
        chosen = images[number, torch.arange(len(names))]
        return LabelledScenes(chosen, list(names), contexts, patch_labels(pixels))


def patch_labels(pixels: torch.Tensor) -> torch.Tensor:
    """The most frequent object in each patch that objects cover by a fifth or more, else 0: [B, 64, 64] -> [B, 64]."""
    side = SIDE // PATCH
    patches = pixels.view(-1, side, PATCH, side, PATCH).transpose(2, 3).reshape(len(pixels), side * side, -1)
    covered = (patches > 0).float().mean(2) > 0.2
    # the mode of a patch counts "nothing" too: give every such pixel a number of its own, so that it never wins
    alone = -1 - torch.arange(patches.shape[2])
    mode = torch.where(patches > 0, patches, alone).mode(dim=2).values
    return torch.where(covered & (mode > 0), mode, 0)


def disturb(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Augmentation of float images [B, 3, 64, 64] in [0, 1]: colour in a half of them, blur and noise in a third each.

    Generated images are softer than composed ones; the model must answer for both.
    """
    count = len(images)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=rng)

    def chosen(share: float) -> torch.Tensor:
        return (uniform(count) < share)[:, None, None, None]

    gain = 0.8 + 0.4 * uniform(count, 3, 1, 1)
    images = torch.where(chosen(0.5), images * gain + 0.1 * (uniform(count, 1, 1, 1) - 0.5), images)
    centre = 0.3 + 0.5 * uniform(count, 1, 1, 1)
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    soft = centre * images + (1 - centre) * F.avg_pool2d(padded, 3, 1)
    images = torch.where(chosen(0.33), soft, images)
    noise = torch.randn(images.shape, generator=rng) * 0.06 * uniform(count, 1, 1, 1)
    return torch.where(chosen(0.33), images + noise, images).clamp(0, 1)
