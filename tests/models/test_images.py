import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synood_ray.models.images import (
    box_in_square,
    box_mask,
    centred_box,
    from_png,
    square_around,
    structure,
    to_png,
    to_square,
    to_tensor,
)
from synood_ray.records import Box


def test_to_tensor_keeps_pixels_that_fit() -> None:
    pixels = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    tensor = to_tensor([Image.fromarray(pixels)], 4)
    assert tensor.shape == (1, 3, 4, 4)
    assert torch.equal((tensor[0] * 255).round().byte().permute(1, 2, 0), torch.from_numpy(pixels))


def test_squashed_images_are_seen_whole() -> None:
    """As PIL's own resize of the released script does it; the centre square would lose both ends."""
    image = Image.new("RGB", (48, 16), (0, 0, 0))
    image.paste((255, 0, 0), (0, 0, 16, 16))
    image.paste((0, 0, 255), (32, 0, 48, 16))
    squashed = to_tensor([image], 16, squash=True)[0]
    assert torch.equal(
        (squashed * 255).round().byte().permute(1, 2, 0), torch.from_numpy(np.array(image.resize((16, 16))))
    )
    assert squashed[0, 8, 1] > 0.9 and squashed[2, 8, -2] > 0.9
    assert to_tensor([image], 16).max() == 0


@given(st.integers(8, 90), st.integers(8, 90), st.integers(8, 64))
def test_to_square_is_square_whatever_the_shape(width: int, height: int, side: int) -> None:
    assert to_square(Image.new("RGB", (width, height)), side).size == (side, side)


def test_a_box_follows_its_subject_through_resize_and_crop() -> None:
    image = Image.new("RGB", (200, 100))
    image.paste((255, 255, 255), (80, 20, 120, 60))
    square = np.asarray(to_square(image, 50))[..., 0]
    ys, xs = np.nonzero(square > 127)
    x0, y0, x1, y1 = box_in_square((80, 20, 120, 60), 200, 100, 50)
    assert abs(x0 - xs.min()) <= 1 and abs(y0 - ys.min()) <= 1
    assert abs(x1 - 1 - xs.max()) <= 1 and abs(y1 - 1 - ys.max()) <= 1


@given(
    st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(1, 100), st.integers(1, 100)),
    st.integers(100, 300),
    st.integers(100, 300),
    st.integers(8, 64),
)
def test_a_box_is_never_empty_nor_outside(box: tuple[int, int, int, int], width: int, height: int, side: int) -> None:
    x0, y0 = min(box[0], box[2] - 1), min(box[1], box[3] - 1)
    a0, b0, a1, b1 = box_in_square((x0, y0, max(box[2], x0 + 1), max(box[3], y0 + 1)), width, height, side)
    assert 0 <= a0 < a1 <= side and 0 <= b0 < b1 <= side


def test_masks_and_png() -> None:
    assert centred_box(64, 0.5) == (16, 16, 48, 48)
    mask = box_mask((1, 2, 3, 5), 8)
    assert mask.sum() == 2 * 3 and mask[0, 2, 1] == 1 and mask[0, 1, 1] == 0
    image = torch.rand(3, 8, 8)
    assert to_tensor([from_png(to_png(image))], 8)[0].numpy() == pytest.approx(image.numpy(), abs=0.5 / 255 + 1e-6)


def test_structure_is_the_mean_laplacian_inside_the_mask() -> None:
    image = torch.zeros(3, 6, 6)
    image[:, 2, 2] = 0.3
    mask = box_mask((1, 1, 4, 4), 6)
    assert structure(image, mask) == pytest.approx((4 * 0.3 + 4 * 0.3) / 9)  # the point, and its four neighbours
    assert structure(image, box_mask((4, 4, 6, 6), 6)) == 0
    assert structure(image + torch.linspace(0, 0.5, 6), mask) == pytest.approx((4 * 0.3 + 4 * 0.3) / 9, abs=1e-5)


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((20, 24, 30, 40), (15, 22, 35, 42)),  # 16 high: a side of 16 + 4
        ((0, 30, 4, 34), (0, 28, 8, 36)),  # moved in from the left edge
        ((50, 60, 64, 64), (46, 46, 64, 64)),
        ((0, 0, 64, 60), (0, 0, 64, 64)),  # no more than the image
    ],
)
def test_the_square_around_a_box(box: Box, square: Box) -> None:
    assert square_around(box, 64) == square
