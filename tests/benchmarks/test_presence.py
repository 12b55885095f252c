"""What the classifier of scenes with and without a subject learns from."""

from __future__ import annotations

import torch

from benchmarks.presence import PADDING, emptied
from tools.mini_world.check import read_images


def test_a_box_is_filled_in_from_its_edges_and_the_rest_stays() -> None:
    """By hand: over a plane, which is its own smoothest filling, a thing leaves no trace."""
    rows, columns = torch.arange(32.0).view(-1, 1), torch.arange(32.0)
    plane = (0.2 + 0.01 * rows + 0.005 * columns).expand(3, 32, 32)
    scene = plane.clone()
    scene[:, 10:16, 12:20] = 1.0
    found = emptied(torch.stack([scene, plane]), torch.tensor([[12, 10, 20, 16], [0, 0, 1, 1]]))
    assert torch.allclose(found[0], plane, atol=2e-3)
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[: 1 + PADDING, : 1 + PADDING] = False
    assert torch.equal(found[1][:, outside], plane[:, outside])


def test_subjects_of_the_bundled_scenes_go() -> None:
    data = read_images("id_test")
    full = data.images[:8].float() / 255
    bare = emptied(full, data.boxes[:8])
    for one, other, (x0, y0, x1, y1) in zip(full, bare, data.boxes[:8].tolist(), strict=True):
        inside = (slice(None), slice(y0, y1), slice(x0, x1))
        assert one[inside].diff(dim=-1).abs().mean() > 4 * other[inside].diff(dim=-1).abs().mean()
