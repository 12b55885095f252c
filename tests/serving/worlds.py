"""A service around a small detector, and clients of it, without Ray; images to send."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image
from starlette.testclient import TestClient

from synood_ray import Detector
from synood_ray.config.serving import ServingSettings
from synood_ray.serving.api import web
from synood_ray.serving.metrics import ServingMetrics
from synood_ray.serving.refused import Refused
from synood_ray.serving.service import Asked, Service, Verdict
from tests.detection.test_detector import make_detector
from tests.detection.tiny_clip import ColourClip
from tests.farm.recorded import Recorded

PNG = {"Content-Type": "image/png"}


def encoded(colour: tuple[int, ...] = (200, 40, 90), form: str = "PNG", size: tuple[int, int] = (20, 15)) -> bytes:
    """A picture of one colour; RGBA if it has four numbers."""
    buffer = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(buffer, form)
    return buffer.getvalue()


class World:
    """A service and its numbers."""

    def __init__(self, detector: Detector | None = None, **settings: Any) -> None:
        self.recorded = Recorded()
        self.detector = detector or make_detector(ColourClip())
        metrics = ServingMetrics("demo", self.recorded)
        self.service = Service(self.detector, "runs/demo", ServingSettings(**settings), metrics, self._alone)

    async def _alone(self, asked: Asked) -> list[Verdict | Refused]:
        return (await self.service.batch([asked]))[0]

    def client(self, **more: Any) -> TestClient:
        return TestClient(web(self.service), **more)
