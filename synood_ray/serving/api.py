"""The web interface: which address does what, and every refusal as a line of JSON."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import synood_ray
from synood_ray.serving.answers import About, Fault, Judgement, Judgements
from synood_ray.serving.fetch import fetch_all
from synood_ray.serving.metrics import ServingMetrics
from synood_ray.serving.refused import Refused
from synood_ray.serving.service import Service
from synood_ray.serving.uploads import Picture, read_upload

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Fault, "description": about}
    for status, about in {
        400: "not what it says it is",
        403: "an address that is not taken",
        413: "too many bytes, pixels or images",
        415: "a Content-Type that is not taken",
        408: "a request that takes too long",
        422: "no image can be judged",
        429: "too many images a second",
        503: "no replica is free",
    }.items()
}
_BODY = {
    "requestBody": {
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}
            },
            "application/json": {
                "schema": {"type": "object", "properties": {"urls": {"type": "array", "items": {"type": "string"}}}}
            },
        }
    }
}
log = logging.getLogger(__name__)


def web(service: Service) -> FastAPI:
    """The application around a service."""
    app = FastAPI(title="synood_ray", version=synood_ray.__version__, docs_url=None, redoc_url=None)
    app.add_middleware(_Counted, metrics=service.metrics)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _defect)

    @app.get("/", summary="What is served")
    async def about() -> About:
        return service.about()

    @app.get("/healthz", summary="Whether a replica answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/score", summary="Judge images", responses=_ERRORS, openapi_extra=_BODY, response_model=None)
    async def score(request: Request, explain: bool = False) -> Response:
        upload = await read_upload(request, service.settings)
        service.rate.take(request.client.host if request.client else "", upload.size)
        fetched = await fetch_all(upload.urls, service.settings) if upload.urls else upload.pictures
        found = await _judge(service, fetched, explain)
        good = [one for one in found if isinstance(one, Judgement)]
        service.metrics.images("ood", sum(one.is_ood for one in good))
        service.metrics.images("id", sum(not one.is_ood for one in good))
        service.metrics.images("refused", len(found) - len(good))
        if not upload.several:
            if isinstance(found[0], Refused):
                raise found[0]
            return _json(found[0])
        names = [*(picture.name for picture in upload.pictures), *upload.urls]
        results = [
            Fault(name=name, error=str(one)) if isinstance(one, Refused) else one
            for name, one in zip(names, found, strict=True)
        ]
        refusals = [one.status for one in found if isinstance(one, Refused)]
        return _json(Judgements(results=results), status=200 if good else max(refusals))

    return app


async def _judge(service: Service, pictures: list[Picture | Refused] | list[Picture], explain: bool) -> list[Any]:
    """Judgements in order; what is refused already stays so."""
    there = [one for one in pictures if isinstance(one, Picture)]
    judged = iter(await service.judge(there, explain=explain))
    return [next(judged) if isinstance(one, Picture) else one for one in pictures]


def _json(answer: Judgement | Judgements | Fault, status: int = 200, **headers: str) -> Response:
    text = answer.model_dump_json(by_alias=True, exclude_none=True)
    return Response(text, status, headers, media_type="application/json")


async def _refused(request: Request, error: Any) -> Response:
    wait = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
    return _json(Fault(error=str(error)), error.status, **wait)


async def _http(request: Request, error: Any) -> Response:
    told = {404: f"There is no {request.url.path} here.", 405: f"{request.method} is not for {request.url.path}."}
    return JSONResponse({"error": told.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def _invalid(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    return _json(Fault(error=f"{first['loc'][-1]}: {first['msg']}."), 400)


async def _defect(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _json(Fault(error="The service failed; its log says why."), 500)


class _Counted:
    """Counts requests by path and status, and their seconds. Paths that are not ours are one: their names are free."""

    def __init__(self, app: ASGIApp, metrics: ServingMetrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.request(path, status, time.perf_counter() - begin)
