"""The service's numbers for Prometheus, by `ray.util.metrics`; docs/operating/serving.md shows the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synood_ray.farm.metrics import Metric, make_metrics

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)

TABLE: Mapping[str, Metric] = {
    "synood_serving_requests": Metric("counter", ("path", "status"), "requests that a replica answered"),
    "synood_serving_seconds": Metric("histogram", ("path",), "seconds from the request to its answer", SECONDS),
    "synood_serving_images": Metric("counter", ("outcome",), "images: id, ood, or refused, whatever the reason"),
    "synood_serving_batch_images": Metric("histogram", (), "images that were judged together", SIZES),
}
"""Name -> what it is."""


class ServingMetrics:
    """run: value of the label `run`. kinds: has Counter, Gauge and Histogram; None: Ray's."""

    def __init__(self, run: str, kinds: Any = None) -> None:
        self._metrics = make_metrics(TABLE, run, kinds)

    def request(self, path: str, status: int, seconds: float) -> None:
        self._metrics["synood_serving_requests"].inc(1, tags={"path": path, "status": str(status)})
        self._metrics["synood_serving_seconds"].observe(seconds, tags={"path": path})

    def images(self, outcome: str, count: int) -> None:
        if count:  # Ray refuses to add nothing
            self._metrics["synood_serving_images"].inc(count, tags={"outcome": outcome})

    def batch(self, images: int) -> None:
        self._metrics["synood_serving_batch_images"].observe(images, tags={})
