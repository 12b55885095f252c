"""Composes the world's 64x64 scenes: a soft background, small context objects, one main subject on top.

Plain torch, seeded, a few thousand scenes a second. The same seed and arguments give the same scenes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.nn import functional as F

from synood_ray.errors import UserError
from synood_ray.mini.world import STYLES, TRAINING_STYLES, World, load_world
from tools.mini_world.render import CACHE

SIDE = 64
DATA_SEED = 2**32  # shipped data uses seeds from here on, training seeds stay below: no scene is in both


@dataclass(frozen=True)
class Layout:
    """How scenes vary. The defaults are the world's; the inpainting model is taught an easier layout."""

    subject: tuple[float, float] = (34.0, 42.0)  # side of the subject's square, px
    context: tuple[float, float] = (13.0, 18.0)  # side of a context object's square, px
    contexts: tuple[int, int] = (1, 3)  # how many context objects, inclusive
    rotation: float = 10.0  # degrees either way
    flip: float = 0.5  # probability of a mirrored subject


@dataclass
class Scenes:
    """A batch of B scenes on the CPU."""

    images: torch.Tensor  # uint8 [B, 3, 64, 64]
    alpha: torch.Tensor  # float32 [B, 1, 64, 64] in [0, 1]: the subject's silhouette (zero without a subject)
    boxes: torch.Tensor  # int64 [B, 4]: x0, y0, x1, y1 in px (end exclusive) around the silhouette; where the
    # subject would stand when it is left out
    names: list[str | None]  # the subject, None when left out
    styles: list[str]
    contexts: list[list[str]] = field(default_factory=list)  # names of the context objects, in drawing order


class SceneComposer:
    """Draws scenes from the sprites that ``python -m tools.mini_world.render`` wrote.

    Raises UserError when the sprites are not there.
    """

    def __init__(self, cache: Path = CACHE, world: World | None = None) -> None:
        from safetensors.torch import load_file

        path = cache / "sprites.safetensors"
        if not path.exists():
            raise UserError(f"{path}: no sprites; run `python -m tools.mini_world.render` first")
        self.world = world or load_world()
        sprites = load_file(path)
        self.big, self.small = sprites["big"], sprites["small"]
        names = list(self.world.concepts)
        self._big = {(STYLES[s], names[n]): i for i, (s, n) in enumerate(sprites["big_index"].tolist())}
        self._small = {(STYLES[s], names[n]): i for i, (s, n) in enumerate(sprites["small_index"].tolist())}

    def batch(
        self,
        names: Sequence[str | None],
        seed: int,
        styles: Sequence[str] = TRAINING_STYLES,
        layout: Layout | None = None,
    ) -> Scenes:
        """Compose one scene per name (None: a scene without a subject).

        Each scene's style is drawn among those of ``styles`` that have the subject. Raises KeyError for a name that
        none of them draws.
        """
        layout = layout or Layout()
        count = len(names)
        rng = torch.Generator().manual_seed(seed)

        def uniform(*shape: int) -> torch.Tensor:
            return torch.rand(*shape, generator=rng)

        chosen = [self._style(name, styles, u) for name, u in zip(names, uniform(count).tolist(), strict=True)]
        present = torch.tensor([name is not None for name in names])
        index = torch.tensor([self._big[s, n] if n is not None else 0 for s, n in zip(chosen, names, strict=True)])
        sprite = premultiplied(self.big[index]) * present[:, None, None, None]

        side = layout.subject[0] + uniform(count) * (layout.subject[1] - layout.subject[0])
        centre = SIDE / 2 + (uniform(count, 2) * 2 - 1) * (SIDE - side[:, None]) / 2 * 0.7
        angle = (uniform(count) * 2 - 1) * layout.rotation
        mirror = uniform(count) < layout.flip
        subject = place(sprite, side, centre, angle, mirror)

        image = background(uniform, sprite, present)
        low, high = layout.contexts
        numbers = low + (uniform(count) * (high - low + 1)).long().clamp(max=high - low)
        corners = torch.argsort(uniform(count, 4), dim=1)
        kinds = torch.argsort(uniform(count, len(self.world.context)), dim=1)
        sizes = layout.context[0] + uniform(count, 4) * (layout.context[1] - layout.context[0])
        jitter = uniform(count, 4, 2) * 3
        contexts: list[list[str]] = [[] for _ in range(count)]
        for slot in range(high):
            rows = torch.nonzero(numbers > slot).flatten()
            if not len(rows):
                continue
            chosen_kinds = [self.world.context[k] for k in kinds[rows, slot].tolist()]
            for row, kind in zip(rows.tolist(), chosen_kinds, strict=True):
                contexts[row].append(kind)
            which = [self._small[chosen[r], k] for r, k in zip(rows.tolist(), chosen_kinds, strict=True)]
            half = sizes[rows, slot, None] / 2 + 0.5
            corner = corners[rows, slot]
            at = torch.stack([corner % 2, corner // 2], dim=1) * 1.0  # 0 or 1: left/right, top/bottom
            middle = at * (SIDE - 2 * half) + half + (1 - 2 * at) * jitter[rows, slot]
            item = place(premultiplied(self.small[which]), sizes[rows, slot], middle)
            image[rows] = item[:, :3] + image[rows] * (1 - item[:, 3:])
        alpha = subject[:, 3:]
        image = subject[:, :3] + image * (1 - alpha)
        return Scenes(
            images=(image.clamp(0, 1) * 255).round().to(torch.uint8),
            alpha=alpha,
            boxes=boxes_of(alpha, present, centre, side),
            names=list(names),
            styles=chosen,
            contexts=contexts,
        )

    def _style(self, name: str | None, styles: Sequence[str], u: float) -> str:
        able = [s for s in styles if name is None or (s, name) in self._big]
        if not able:
            raise KeyError(f"{name!r} is drawn in none of {tuple(styles)}")
        return able[int(u * len(able))]


def premultiplied(sprites: torch.Tensor) -> torch.Tensor:
    """uint8 RGBA [B, 4, s, s] -> float32 in [0, 1], colours multiplied by alpha (so that resizing leaves no fringe)."""
    x = sprites.float() / 255
    return torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], dim=1)


def place(
    sprites: torch.Tensor,
    side: torch.Tensor,
    centre: torch.Tensor,
    angle: torch.Tensor | None = None,
    mirror: torch.Tensor | None = None,
) -> torch.Tensor:
    """Put RGBA sprites on empty canvases: [B, 4, s, s] -> [B, 4, 64, 64].

    ``side`` [B] px and ``centre`` [B, 2] (x, y) px; ``angle`` [B] degrees; ``mirror`` bool [B].
    """
    count = len(sprites)
    radians = torch.deg2rad(angle) if angle is not None else torch.zeros(count)
    sign = torch.where(mirror, -1.0, 1.0) if mirror is not None else torch.ones(count)
    scale = SIDE / side
    offset = 1 - 2 * centre / SIDE  # the canvas centre seen from the sprite's, in canvas half-sides
    cos, sin = radians.cos() * scale, radians.sin() * scale
    matrix = torch.stack([torch.stack([cos * sign, sin * sign], 1), torch.stack([-sin, cos], 1)], 1)
    grid = F.affine_grid(torch.cat([matrix, matrix @ offset[:, :, None]], 2), [count, 4, SIDE, SIDE], False)
    return F.grid_sample(sprites, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def background(uniform: Callable[..., torch.Tensor], sprite: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Soft colour fields [B, 3, 64, 64] that stand out from the subject: of six base colours the most distant wins."""
    count = len(sprite)
    mass = sprite[:, 3].sum((1, 2)).clamp(min=1e-3)
    colour = sprite[:, :3].sum((2, 3)) / mass[:, None]
    candidates = 0.2 + 0.7 * uniform(count, 6, 3)
    candidates = candidates * 0.75 + candidates.mean(2, keepdim=True) * 0.25
    weight = torch.tensor([0.6, 1.0, 0.4])  # brightness counts most, and green carries most of it
    distance = ((candidates - colour[:, None]) * weight).norm(dim=2)
    pick = torch.where(present, distance.argmax(1), 0)
    base = candidates[torch.arange(count), pick]
    field_ = base[:, :, None, None] + 0.32 * (uniform(count, 3, 3, 3) - 0.5)
    return F.interpolate(field_, SIDE, mode="bicubic", align_corners=True).clamp(0.03, 0.97)


def boxes_of(alpha: torch.Tensor, present: torch.Tensor, centre: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
    """Tight boxes around the silhouettes; the sprite's square where there is none. int64 [B, 4], end exclusive."""
    solid = alpha[:, 0] > 0.1

    def ends(line: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        line = line.long()
        return line.argmax(1), SIDE - line.flip(1).argmax(1)

    x0, x1 = ends(solid.any(1))
    y0, y1 = ends(solid.any(2))
    tight = torch.stack([x0, y0, x1, y1], 1)
    low = (centre - side[:, None] / 2).floor().clamp(0, SIDE).long()
    high = (centre + side[:, None] / 2).ceil().clamp(0, SIDE).long()
    return torch.where(present[:, None], tight, torch.cat([low, high], 1))
