"""Drawings between two others, on plain shapes whose right answer is known."""

import pytest
import torch

from tools.mini_world.between import bend, between, outline, recolour

SIDE = 48


def shape(width: float, height: float, *colours: tuple[float, float, float]) -> torch.Tensor:
    """An ellipse of these half axes, premultiplied RGBA [1, 4, S, S]; the colours in stripes of equal height."""
    line = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    alpha = ((x / width).square() + (y / height).square() <= 1).float()
    stripe = ((y / height + 1) / 2 * len(colours)).long().clamp(0, len(colours) - 1)
    rgb = torch.tensor(colours)[stripe].permute(2, 0, 1)
    return torch.cat([rgb * alpha, alpha[None]])[None]


RED, BLUE, WHITE, BLACK = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)


def test_outline_is_how_far_the_silhouette_reaches() -> None:
    centre, radii = outline(shape(0.8, 0.4, RED)[:, 3:])
    assert torch.allclose(centre, torch.zeros(1, 2), atol=0.01)
    right, down = radii[0, 0].item(), radii[0, len(radii[0]) // 4].item()
    assert right == pytest.approx(0.8, abs=0.06) and down == pytest.approx(0.4, abs=0.04)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_bent_silhouettes_lie_between(share: float) -> None:
    wide, tall = shape(0.8, 0.4, RED), shape(0.4, 0.8, BLUE)
    _, radii = outline(bend(wide, tall, torch.tensor([share]))[:, 3:])
    right, down = radii[0, 0].item(), radii[0, len(radii[0]) // 4].item()
    # in between by the ratio of lengths
    assert right == pytest.approx(0.8 * 0.5**share, abs=0.08) and down == pytest.approx(0.4 * 2**share, abs=0.08)


def test_colours_change_light_for_light_and_the_silhouette_stays() -> None:
    drawn, palette = shape(0.7, 0.7, WHITE, BLACK)[0], shape(0.5, 0.5, (1.0, 0.9, 0.3), (0.3, 0.0, 0.0))[0]
    painted = recolour(drawn, palette)
    assert torch.equal(painted[3], drawn[3])
    above, below = painted[:3, SIDE // 2 - 8, SIDE // 2], painted[:3, SIDE // 2 + 8, SIDE // 2]
    assert torch.allclose(above, torch.tensor([1.0, 0.9, 0.3]), atol=0.1)
    assert torch.allclose(below, torch.tensor([0.3, 0.0, 0.0]), atol=0.1)


def test_a_pair_looks_the_same_whichever_comes_first() -> None:
    one, other = shape(0.9, 0.7, RED), shape(0.4, 0.8, BLUE)
    there = between(one, other, torch.tensor([0.3]))
    assert torch.allclose(there, between(other, one, torch.tensor([0.7])), atol=1e-4)
    # the larger one's silhouette in the other's colour, premultiplied
    solid = there[0, 3] > 0.99
    assert torch.allclose(there[0, :3, solid].mean(1), torch.tensor(BLUE), atol=0.1)
    assert there.min() >= 0 and there.max() <= 1 and bool((there[:, :3] <= there[:, 3:] + 1e-4).all())


def test_a_drawing_without_a_solid_pixel_is_no_fault() -> None:
    faint = shape(0.5, 0.5, RED) * 0.3
    assert bool(between(faint, shape(0.9, 0.9, BLUE), torch.tensor([0.5])).isfinite().all())
