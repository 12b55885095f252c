"""What Ray Serve's proxy says itself: its plain text comes in the form of our refusals, all else as it is."""

from __future__ import annotations

from typing import Any

import pytest
from ray.serve._private.http_util import (
    call_function_from_import_path,
    convert_object_to_asgi_messages,
    parse_disconnect_disabled_header,
    parse_request_timeout_header,
)
from ray.serve.config import ControllerOptions
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from synood_ray.serving.proxy import CONTROLLER, ErrorsAsJson, OwnLimits


def answered(app: Any, path: str = "/score") -> Any:
    return TestClient(ErrorsAsJson(app)).post(path, content=b"x")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (408, "The request took longer than the service allows."),
        (503, "No replica is free; try again."),
        (404, "There is nothing here, or not yet."),
        (502, "Bad Gateway."),
    ],
)
def test_serves_own_errors_are_json(status: int, said: str) -> None:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        for message in convert_object_to_asgi_messages("Serve's words", status, [(b"retry-after", b"1")]):
            await send(message)

    answer = answered(serve)
    assert (answer.status_code, answer.json()) == (status, {"error": said})
    assert answer.headers["content-type"] == "application/json" and answer.headers["retry-after"] == "1"
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_errors_in_pieces_are_answered_once() -> None:
    pieces = StreamingResponse(iter(["a", "b"]), 503, media_type="text/plain")
    assert answered(pieces).json() == {"error": "No replica is free; try again."}


def test_what_is_no_error_of_serves_passes() -> None:
    for response in (JSONResponse({"error": "Ours."}, 422), JSONResponse({"score": 1.0}), PlainTextResponse("text")):
        answer = answered(response)
        assert (answer.status_code, answer.content) == (response.status_code, response.body)
    unhealthy = answered(PlainTextResponse("draining", 503), "/-/healthz")
    assert (unhealthy.status_code, unhealthy.text) == (503, "draining")


def test_a_request_that_nobody_answers_is_a_defect() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    answer = answered(silent)
    assert answer.status_code == 500 and answer.json() == {"error": "The service failed; its log says why."}


def test_serve_finds_it_by_its_name() -> None:
    (path,) = ControllerOptions.model_validate(CONTROLLER).runtime_env["env_vars"].values()
    assert [one.cls for one in call_function_from_import_path(path)] == [OwnLimits, ErrorsAsJson]


def test_a_client_cannot_lift_the_time_limit() -> None:
    async def timed(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        found = [parse_request_timeout_header(headers, 30.0), parse_disconnect_disabled_header(headers)]
        await JSONResponse([*found, headers[b"x-mine"].decode()])(scope, receive, send)

    asked = {"X-Request-Timeout-Seconds": "-1", "X-Request-Disconnect-Disabled": "?1", "X-Mine": "kept"}
    assert TestClient(OwnLimits(timed)).post("/score", headers=asked).json() == [30.0, False, "kept"]
    assert TestClient(timed).post("/score", headers=asked).json() == [None, True, "kept"]
