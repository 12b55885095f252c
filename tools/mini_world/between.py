"""Drawings of things that are between two others: what the inpainting model can learn that a blend of names shows.

The drawing of one thing, bent into a silhouette between both and painted in the other's colours. It stays one whole,
sharp drawing, which a mean of two pictures, or what a model makes up that was shown single names only, is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

ANGLES, RADII, FARTHEST = 64, 80, 1.6  # of a silhouette's outline; radii in half sides of the sprite
SOLID = 0.4  # alpha from where a pixel belongs to the silhouette
COLOURS, ROUNDS = 6, 10  # of a palette, and of k-means
LUMINANCE = (0.3, 0.59, 0.11)
SPREAD = 0.1  # how far a colour's own pixels lie from it, RGB distance in 0..1


@dataclass(frozen=True)
class Between:
    """What is drawn: (1 - share) of ``own`` and ``share`` of ``other``, names of concepts."""

    own: str
    other: str
    share: float


def between(own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Premultiplied RGBA [N, 4, S, S] in 0..1, twice, and shares [N] in 0..1 -> drawings between them.

    Of each pair the drawing with the larger silhouette is bent and recoloured: the same at all shares, so that a pair
    of names has one look per style, as a single name has.
    """
    fuller = (own[:, 3].sum((1, 2)) >= other[:, 3].sum((1, 2)))[:, None, None, None]
    drawn, lending = torch.where(fuller, own, other), torch.where(fuller, other, own)
    bent = bend(drawn, lending, torch.where(fuller.flatten(), share, 1 - share))
    return torch.stack([recolour(one, palette) for one, palette in zip(bent, lending, strict=True)])


def bend(drawn: Tensor, towards: Tensor, share: Tensor) -> Tensor:
    """``drawn`` with its outline moved by ``share`` [N] towards the other's, along rays from the middle of its mass."""
    count, _, side, _ = drawn.shape
    share = share[:, None]
    centre, radii = outline(drawn[:, 3:])
    goal_centre, goal_radii = outline(towards[:, 3:])
    middle = centre.lerp(goal_centre, share)
    wanted = radii.log().lerp(goal_radii.log(), share).exp()
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    x = (line[None, None, :] - middle[:, 0, None, None]).expand(count, side, side)
    y = (line[None, :, None] - middle[:, 1, None, None]).expand(count, side, side)
    angle = torch.atan2(y, x).flatten(1)
    scale = (_at(radii, angle) / _at(wanted, angle)).view(count, side, side)
    grid = torch.stack([centre[:, 0, None, None] + x * scale, centre[:, 1, None, None] + y * scale], -1)
    return F.grid_sample(drawn, grid, align_corners=False)


def outline(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Silhouettes [N, 1, S, S] -> middles of their mass [N, 2] (x, y), and how far they reach at every angle, smoothed
    [N, ANGLES]; both in half sides of the sprite."""
    side = alpha.shape[-1]
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    mass = alpha[:, 0].sum((1, 2)).clamp(min=1e-3)
    x = (alpha[:, 0] * line).sum((1, 2)) / mass
    y = (alpha[:, 0] * line[:, None]).sum((1, 2)) / mass
    angle = torch.arange(ANGLES) / ANGLES * 2 * math.pi
    radius = torch.linspace(FARTHEST / RADII, FARTHEST, RADII)
    rays = torch.stack([angle.cos()[:, None] * radius, angle.sin()[:, None] * radius], -1)  # [ANGLES, RADII, 2]
    seen = F.grid_sample(alpha, rays + torch.stack([x, y], 1)[:, None, None], align_corners=False)[:, 0]
    reach = torch.where(seen > SOLID, radius, 0.0).amax(-1).clamp(min=0.12)
    kernel = torch.tensor([[[1.0, 2.0, 3.0, 2.0, 1.0]]]) / 9
    smooth = F.conv1d(F.pad(reach.log()[:, None], (2, 2), mode="circular"), kernel)[:, 0]
    return torch.stack([x, y], 1), smooth.exp()


def _at(radii: Tensor, angle: Tensor) -> Tensor:
    """Outlines [N, ANGLES] at angles [N, M] in radians, linear between two of them."""
    place = (angle / (2 * math.pi) * ANGLES) % ANGLES
    low = place.floor().long() % ANGLES
    return radii.gather(1, low).lerp(radii.gather(1, (low + 1) % ANGLES), place - place.floor())


def recolour(drawn: Tensor, palette: Tensor) -> Tensor:
    """``drawn`` in the colours of ``palette``, both premultiplied RGBA [4, S, S]; shades within a colour stay.

    Colours take each other's places area for area, light for light (an entropic transport between two palettes).
    """
    own, shares = _colours(drawn)
    lent, lent_shares = _colours(palette)
    plan = _transport(own, shares, lent, lent_shares).square()  # nearly one colour for each, no greys between
    target = plan / plan.sum(1, keepdim=True).clamp(min=1e-9) @ lent
    there = drawn[3] > 0.02
    pixels = (drawn[:3, there] / drawn[3, there]).T.clamp(0, 1)
    belongs = torch.softmax(-torch.cdist(pixels, own).square() / SPREAD**2, 1)
    painted = drawn.clone()
    painted[:3, there] = (pixels + belongs @ (target - own)).clamp(0, 1).T * drawn[3, there]
    return painted


def _colours(drawing: Tensor) -> tuple[Tensor, Tensor]:
    """The palette [COLOURS, 3] of a drawing and the area of each colour, a share: k-means from the farthest colours."""
    solid = drawing[3] > 0.5
    pixels = (drawing[:3, solid] / drawing[3, solid]).T
    if not len(pixels):
        return torch.full((COLOURS, 3), 0.5), torch.full((COLOURS,), 1 / COLOURS)
    found = [pixels.mean(0)]
    for _ in range(COLOURS - 1):
        found.append(pixels[torch.cdist(pixels, torch.stack(found)).amin(1).argmax()])
    centres = torch.stack(found)
    for _ in range(ROUNDS):
        nearest = F.one_hot(torch.cdist(pixels, centres).argmin(1), COLOURS).float()
        areas = nearest.sum(0)
        centres = torch.where(areas[:, None] > 0, nearest.T @ pixels / areas[:, None].clamp(min=1), centres)
    return centres, areas / len(pixels) + 1e-4


def _transport(own: Tensor, shares: Tensor, lent: Tensor, lent_shares: Tensor) -> Tensor:
    """How much of every own colour goes to every lent one [COLOURS, COLOURS] (Sinkhorn's iterations): what is lighter
    than its drawing goes to what is lighter than its own, and a little by hue."""
    weights = torch.tensor(LUMINANCE)
    light, lent_light = own @ weights, lent @ weights
    light, lent_light = light - light @ shares, lent_light - lent_light @ lent_shares
    cost = 3 * (light[:, None] - lent_light).square() + 0.3 * torch.cdist(own, lent).square()
    kernel, scale = (-cost / 0.03).exp() + 1e-9, torch.ones(len(own))
    for _ in range(50):
        lent_scale = lent_shares / (kernel.T @ scale)
        scale = shares / (kernel @ lent_scale)
    return scale[:, None] * kernel * lent_scale
