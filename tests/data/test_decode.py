"""Decoding: what is unusable has a reason, what is odd is read right, and nothing else ever comes out."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synood_ray.config.settings import DataSettings
from synood_ray.data.decode import UnusableImage, decode, read_header
from synood_ray.errors import Unavailable
from tests.badimages import broken, encode, odd, picture, quarters

DATA = DataSettings()


@pytest.mark.parametrize("name", broken())
def test_unusable_images_give_a_reason(name: str) -> None:
    bad = broken()[name]
    with pytest.raises(UnusableImage) as raised:
        decode(bad.data, DATA)
    assert bad.reason in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", broken())
def test_the_header_tells_what_it_can(name: str) -> None:
    bad = broken()[name]
    if bad.at_scan:
        with pytest.raises(UnusableImage, match=bad.reason):
            read_header(io.BytesIO(bad.data), DATA)
    else:
        read_header(io.BytesIO(bad.data), DATA)


@pytest.mark.parametrize("name", odd())
def test_odd_images_are_read_right(name: str) -> None:
    data = odd()[name]
    image = decode(data, DATA)
    assert (image.mode, image.size) == ("RGB", (64, 48))
    assert read_header(io.BytesIO(data), DATA) == image.size
    expected = quarters().convert("L").convert("RGB") if "grey" in name else quarters()
    difference = np.abs(np.asarray(image, dtype=int) - np.asarray(expected, dtype=int))
    inside = np.ones((48, 64), dtype=bool)
    inside[20:28] = inside[:, 28:36] = False  # JPEG rings at the edges between the colours
    assert difference[inside].max() <= (3 if name.endswith(("jpg", "avif")) else 1)


def test_a_16_bit_image_keeps_its_greys() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(16, axis=0)
    image = decode(encode(Image.fromarray(ramp)), DATA)
    assert np.asarray(image)[0, :, 0].tolist() == list(range(256))
    almost_white = np.full((16, 16), 65500, dtype=np.uint16)
    assert decode(encode(Image.fromarray(almost_white)), DATA).getpixel((0, 0)) == (255, 255, 255)


def test_limits_are_the_settings() -> None:
    data = encode(picture(40, 30))
    assert decode(data, DataSettings(min_side=30, max_side=40)).size == (40, 30)
    with pytest.raises(UnusableImage, match=r"40x30 pixels: smaller than data\.min_side"):
        decode(data, DataSettings(min_side=31))
    with pytest.raises(UnusableImage, match=r"40x30 pixels: larger than data\.max_side"):
        decode(data, DataSettings(max_side=39))


ZOO = [encode(picture(24, 24), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")] + [
    *odd().values(),
    *(bad.data for bad in broken().values() if bad.data),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=400)
@given(st.data())
def test_damage_never_raises_anything_else(draw: st.DataObject) -> None:
    data = bytearray(draw.draw(st.sampled_from(ZOO)))
    for at, value in draw.draw(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=12)):
        data[at % min(len(data), 2000)] = value
    data = data[: draw.draw(st.integers(0, len(data)))] if draw.draw(st.booleans()) else data
    for read in (lambda: decode(bytes(data), DATA).size, lambda: read_header(io.BytesIO(bytes(data)), DATA)):
        try:
            assert min(read()) >= DATA.min_side
        except UnusableImage as error:
            assert str(error)


def test_a_store_that_is_away_while_exif_is_read_is_no_damaged_exif(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(image: Image.Image) -> Image.Exif:
        raise Unavailable("the store is away")

    def damaged(image: Image.Image) -> Image.Exif:
        raise struct.error("unpack requires a buffer of 2 bytes")

    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "JPEG")
    monkeypatch.setattr(Image.Image, "getexif", damaged)
    assert decode(buffer.getvalue(), DATA).size == (32, 32)
    monkeypatch.setattr(Image.Image, "getexif", away)
    with pytest.raises(Unavailable):
        decode(buffer.getvalue(), DATA)
