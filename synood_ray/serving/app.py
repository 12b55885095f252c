"""The Ray Serve application: ``synood_ray.serving.app:build``, for `synood serve` and for a RayService alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from synood_ray import logs
from synood_ray.config.serving import ServingSettings
from synood_ray.config.settings import LogSettings
from synood_ray.locations import run_name
from synood_ray.serving.api import web
from synood_ray.serving.metrics import ServingMetrics
from synood_ray.serving.proxy import RETRY_AFTER
from synood_ray.serving.refused import Refused
from synood_ray.serving.service import Asked, Service, Verdict, load_detector

NAME = "synood"
"""Of the application, and of its metrics' label `application`."""


class Arguments(BaseModel):
    """``args`` of an application in a Serve config file. serving.host, port and timeout are that file's
    http_options, not these."""

    model_config = ConfigDict(extra="forbid")

    run: str
    serving: ServingSettings = ServingSettings()
    log: LogSettings = LogSettings()


def _images(asked: Sequence[Asked]) -> int:
    return sum(len(one.squares) for one in asked)


@serve.deployment(name="detector")
@serve.ingress()
class Replica:
    """Loads the detector, then answers the web interface's requests."""

    def __init__(self, arguments: Arguments) -> None:
        logs.configure(arguments.log, run=arguments.run, worker=serve.get_replica_context().replica_id.unique_id)
        torch.set_num_threads(max(1, int(arguments.serving.replicas.cpus)))
        detector = load_detector(arguments.run, arguments.serving)
        metrics = ServingMetrics(run_name(arguments.run))
        gathering: Any = self.together  # Serve's decorator adds what its type does not say
        gathering.set_max_batch_size(arguments.serving.batch_size)
        gathering.set_batch_wait_timeout_s(arguments.serving.batch_wait)
        self.service = Service(detector, arguments.run, arguments.serving, metrics, self.together)
        self.service.warm_up()

    @serve.batch(max_concurrent_batches=2, batch_size_fn=_images)
    async def together(self, asked: list[Asked]) -> list[list[Verdict | Refused]]:
        """Called with one, by many at once; gets them in lists. While it judges some, others gather."""
        return await self.service.batch(asked)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return web(self.service)


def build(args: Mapping[str, Any]) -> Application:
    """The application of `Arguments`, as JSON values: what a config file has as ``args``."""
    arguments = Arguments.model_validate(args)
    return Replica.options(**_options(arguments)).bind(arguments)  # type: ignore[attr-defined, no-any-return]


def _options(arguments: Arguments) -> dict[str, Any]:
    """Of the deployment: how many replicas, on what, and how many requests they take."""
    settings, replicas = arguments.serving, arguments.serving.replicas
    actor: dict[str, Any] = {"num_cpus": replicas.cpus, "num_gpus": replicas.gpus, "resources": replicas.resources}
    if replicas.labels:
        actor["label_selector"] = replicas.labels
    found: dict[str, Any] = {
        "ray_actor_options": actor,
        "max_ongoing_requests": settings.concurrent,
        "max_queued_requests": settings.queue,
        "backpressure_config": {"retry_after_s": RETRY_AFTER},
        "logging_config": {"encoding": arguments.log.form.upper(), "log_level": arguments.log.level.upper()},
    }
    if replicas.min == replicas.max:
        return found | {"num_replicas": replicas.max}
    scaling = {"min_replicas": replicas.min, "max_replicas": replicas.max}
    return found | {"autoscaling_config": scaling | {"target_ongoing_requests": max(1, settings.concurrent / 2)}}
