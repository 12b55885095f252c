"""What Ray Serve's proxy says itself, where no replica has answered, in the form of our own refusals, and no limits but
ours.

The proxy says it as plain text, and lets clients lift its time limit. It takes middleware only by the name of a
function in its environment, which the one who starts Serve gives it through the controller: `synood serve` does, and
cluster/kuberay/service.yaml.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTROLLER: dict[str, Any] = {
    "runtime_env": {"env_vars": {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "synood_ray.serving.proxy:middleware"}}
}
"""Serve's ``controller_options``; its proxies inherit them."""
RETRY_AFTER = 1.0
"""Seconds after which who was refused for want of a free replica may come again: a batch takes less."""
_LIFTING = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled")
"""Headers by which a client takes as long as it likes, and keeps a replica busy that nobody listens to."""
_OWN = "/-/"
"""Before Serve's own pages, which load balancers read."""
_SAID = {
    404: "There is nothing here, or not yet.",
    408: "The request took longer than the service allows.",
    503: "No replica is free; try again.",
    500: "The service failed; its log says why.",
}


def middleware() -> list[Middleware]:
    """Called by each proxy when it starts."""
    return [Middleware(OwnLimits), Middleware(ErrorsAsJson)]


class OwnLimits:
    """Serve does not see headers that lift its limits."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "headers" in scope:
            kept = [header for header in scope["headers"] if bytes(header[0]).lower() not in _LIFTING]
            scope = {**scope, "headers": kept}
        await self.app(scope, receive, send)


class ErrorsAsJson:
    """Plain text with a status of 400 or more becomes ``{"error": …}``; so does a request that is not answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_OWN):
            await self.app(scope, receive, send)
            return
        started, held = False, None

        async def told(message: Message) -> None:
            nonlocal started, held
            if message["type"] == "http.response.start":
                started = True
                if message["status"] >= 400 and _is_text(message):
                    held = message
                    return
            elif held is not None:
                if message.get("more_body"):
                    return
                await _answer(send, held)
                return
            await send(message)

        await self.app(scope, receive, told)
        if not started:
            await _answer(send, {"type": "http.response.start", "status": 500, "headers": []})


def _is_text(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/plain")


async def _answer(send: Send, start: Message) -> None:
    """With other headers of it, such as Retry-After, as they are."""
    status = start["status"]
    body = json.dumps({"error": _SAID.get(status) or f"{HTTPStatus(status).phrase}."}, separators=(",", ":")).encode()
    headers = MutableHeaders(raw=[(bytes(name), bytes(value)) for name, value in start["headers"]])
    headers["content-type"], headers["content-length"] = "application/json", str(len(body))
    await send({**start, "headers": headers.raw})
    await send({"type": "http.response.body", "body": body})
