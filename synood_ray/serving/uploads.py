"""What a request brings: the bytes of its images, or addresses of them, never more than is allowed."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from synood_ray.config.serving import ServingSettings
from synood_ray.serving.refused import Refused

TAKEN = (
    "send an image with its own Content-Type (image/png, image/jpeg, …), files as multipart/form-data, or, where "
    'addresses are allowed, application/json with {"urls": […]}'
)


class Picture(NamedTuple):
    """An encoded image and what it is called."""

    name: str
    data: bytes


class Upload(NamedTuple):
    """What a request has brought. several: it may have many images, and is answered with a list."""

    pictures: list[Picture]
    urls: list[str]
    several: bool

    @property
    def size(self) -> int:
        return len(self.pictures) + len(self.urls)


async def read_upload(request: Request, settings: ServingSettings) -> Upload:
    """Read a request. Raises Refused: 400 (not what it says it is), 403 (addresses), 413 (too much), 415 (type)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/"):
        return Upload([Picture("", await _body(request, settings.max_bytes))], [], several=False)
    if kind == "multipart/form-data":
        upload = Upload(await _files(request, settings), [], several=True)
    elif kind == "application/json":
        upload = Upload([], await _urls(request, settings), several=True)
    else:
        raise Refused(415, f"Content-Type {kind!r} is not taken; {TAKEN}." if kind else f"No Content-Type; {TAKEN}.")
    if upload.size > settings.max_images:
        raise Refused(413, f"{upload.size} images are more than one request may have ({settings.max_images}).")
    return upload


async def _body(request: Request, limit: int) -> bytes:
    """The body, read no further than the limit."""
    too_long = Refused(413, f"The body is longer than {limit} bytes.")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise too_long
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_long
    return bytes(body)


async def _files(request: Request, settings: ServingSettings) -> list[Picture]:
    body = await _body(request, settings.max_bytes)

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    parser = MultiPartParser(request.headers, whole(), max_files=settings.max_images, max_fields=settings.max_images)
    parser.spool_max_size = settings.max_bytes  # it is in memory as it is
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many"):
            raise Refused(413, f"There are more images than one request may have ({settings.max_images}).") from error
        raise Refused(400, f"The form cannot be read: {error.message}") from error
    files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    if not files:
        raise Refused(400, "The form holds no file; curl sends one with -F file=@photo.jpg.")
    return [Picture(file.filename or "", await file.read()) for file in files]


async def _urls(request: Request, settings: ServingSettings) -> list[str]:
    if settings.urls == "none":
        raise Refused(403, "Addresses are not taken here; send the image itself.")
    try:
        found = json.loads(await _body(request, settings.max_bytes))
    except ValueError as error:
        raise Refused(400, "The body is no JSON.") from error
    urls = found.get("urls") if isinstance(found, dict) else None
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise Refused(400, 'The body must be {"urls": […]}, with one address or more.')
    return urls
