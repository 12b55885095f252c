"""A zoo of images as they come from the wild: broken ones that must be skipped, odd ones that must be read right."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

EXIF_ORIENTATION = 0x0112


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(width: int = 48, height: int = 48, seed: int = 0, noise: float = 60.0) -> Image.Image:
    """A smooth RGB picture with noise on it; more noise, more bytes."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(40, 215, width)[None, :, None] * np.ones((height, 1, 3))
    return Image.fromarray(np.clip(slope + rng.normal(0, noise, slope.shape), 0, 255).astype(np.uint8))


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Red, green / blue, white: tells every rotation and flip apart."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("lime", (width // 2, 0, width, height // 2))
    image.paste("blue", (0, height // 2, width // 2, height))
    image.paste("white", (width // 2, height // 2, width, height))
    return image


@dataclass(frozen=True)
class Broken:
    """``at_scan``: whether the header alone already tells; ``reason``: words that the skip must contain."""

    data: bytes
    reason: str
    at_scan: bool = True


def broken() -> dict[str, Broken]:
    """File name -> an image that cannot be used."""
    good = encode(picture(), "JPEG", quality=95)
    png = encode(picture())
    frames = [picture(seed=seed) for seed in range(3)]
    return {
        "zero.jpg": Broken(b"", "empty file"),
        "text.png": Broken(b"this is no picture\n" * 50, "not an image"),
        "page.jpg": Broken(b"<!DOCTYPE html><html><body>404 not found</body></html>", "not an image"),
        "vector.png": Broken(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "not an image"),
        "postscript.eps": Broken(encode(picture(), "EPS"), "not an image"),
        "only a start.jpg": Broken(good[:2], "not an image"),
        "header cut.png": Broken(png[:20], "damaged header"),
        "cut.jpg": Broken(good[: len(good) // 2], "decoded", at_scan=False),
        "cut.png": Broken(png[: len(png) // 2], "decoded", at_scan=False),
        "wrong checksum.png": Broken(_spoil_png(png), "", at_scan=False),
        "one pixel.png": Broken(encode(Image.new("RGB", (1, 1))), "smaller than data.min_side"),
        "line.png": Broken(encode(Image.new("RGB", (400, 2))), "smaller than data.min_side"),
        "long.png": Broken(encode(Image.new("1", (20000, 32))), "larger than data.max_side"),
        "bomb.png": Broken(_huge_png(20000, 20000), "more than 179 million pixels"),
        "animated.gif": Broken(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]), "animated"),
        "animated.png": Broken(encode(frames[0], "PNG", save_all=True, append_images=frames[1:]), "animated"),
        "animated.webp": Broken(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]), "animated"),
        "pages.tiff": Broken(encode(frames[0], "TIFF", save_all=True, append_images=frames[1:]), "more than one"),
        "float.tiff": Broken(encode(Image.new("F", (32, 32), 7.5), "TIFF"), "outside 0..1", at_scan=False),
    }


def odd() -> dict[str, bytes]:
    """File name -> an unusual image that must be read, each of which shows `quarters` (64x48) when read right."""
    image = quarters()
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    return {
        "plain.png": encode(image),
        "plain.webp": encode(image, "WEBP", lossless=True),
        "plain.bmp": encode(image, "BMP"),
        "plain.tiff": encode(image, "TIFF"),
        "plain.gif": encode(image, "GIF"),
        "plain.ppm": encode(image, "PPM"),
        "plain.avif": encode(image, "AVIF", quality=100),
        "no extension": encode(image),
        "wrong extension.jpg": encode(image),
        "cmyk.jpg": encode(image.convert("CMYK"), "JPEG", quality=100),
        "cmyk.tiff": encode(image.convert("CMYK"), "TIFF"),
        "palette.png": encode(image.quantize(8)),
        "alpha.png": encode(_white_made_transparent(image)),
        "palette with alpha.png": encode(_white_made_transparent(image).quantize(8)),
        "grey.png": encode(image.convert("L")),
        "grey with alpha.png": encode(_white_made_transparent(image).convert("LA")),
        "grey 16 bit.png": encode(Image.fromarray(grey)),
        "grey 16 bit.tiff": encode(Image.fromarray(grey), "TIFF"),
        "grey float.tiff": encode(Image.fromarray((grey / 65535.0).astype(np.float32)), "TIFF"),
        "rgb 16 bit.png": _png_16_bit(np.asarray(image).astype(np.uint16) * 257),
        "preview behind.jpg": encode(image, "MPO", save_all=True, append_images=[image], quality=100),
        **{f"exif {turn}.jpg": rotated(turn) for turn in range(1, 9)},
        "exif 6.png": rotated(6, "PNG"),
        "exif 6.webp": rotated(6, "WEBP"),
        "bad exif.jpg": encode(image, "JPEG", quality=100, exif=b"Exif\0\0garbage that is no TIFF"),
    }


def rotated(orientation: int, kind: str = "JPEG") -> bytes:
    """`quarters` as a camera held otherwise stores it: turned pixels and the EXIF tag that says how to turn back."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = quarters()
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    stored = image.transpose(back[orientation]) if orientation in back else image
    return encode(stored, kind, exif=exif.tobytes(), quality=100)


def _white_made_transparent(image: Image.Image) -> Image.Image:
    layer = np.asarray(image.convert("RGBA")).copy()
    white = (layer[..., :3] == 255).all(axis=-1)
    layer[white] = (0, 0, 0, 0)  # black beneath: shows where transparency is ignored
    return Image.fromarray(layer)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png(width: int, height: int, depth: int, colour: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(pixels)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _png_16_bit(pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return _png(width, height, 16, 2, rows)


def _huge_png(width: int, height: int) -> bytes:
    """A file of a few bytes that claims to be enormous."""
    return _png(width, height, 8, 2, b"\0" * 100)


def _spoil_png(png: bytes) -> bytes:
    at = png.index(b"IDAT") + 40
    return png[:at] + bytes([png[at] ^ 0xFF]) + png[at + 1 :]
