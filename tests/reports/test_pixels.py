"""Images that are handed to a detector."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch

from synood_ray.detection.inputs import pictures
from tests.badimages import encode, quarters
from tests.reports.table import rows

PIXELS = np.asarray(quarters())


@rows(
    "image",
    ("trial", "uint8 tensors", "the pixels of training", torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)),
    ("trial", "floats in 0..1", "the pixels of training", PIXELS / 255),
    ("trial", "uint16 arrays", "scaled, not cut off", PIXELS.astype(np.uint16) * 257),
    ("trial", "encoded bytes", "decoded as in training", encode(quarters())),
)
def test_integers_are_scaled(image: Any) -> None:
    ((_, found),) = pictures(image)
    assert np.abs(np.asarray(found).astype(int) - PIXELS).max() <= 1


@rows(
    "image",
    ("trial", "floats in 0..255", "ValueError, with what is taken; never “ID”", PIXELS.astype(np.float32)),
    ("trial", "tensors normalised for a model", "ValueError; never “ID”", (PIXELS - 127.0) / 64),
    ("trial", "NaN", "ValueError; never “ID”", np.full((8, 8, 3), np.nan)),
    ("trial", "a tensor of the wrong rank", "ValueError", torch.zeros(8, 8)),
    ("trial", "an object that is no image", "ValueError", io.StringIO("x")),
)
def test_what_cannot_be_judged_is_an_error(image: Any) -> None:
    with pytest.raises(ValueError, match="images:"):
        list(pictures(image))
