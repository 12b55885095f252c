"""RAY_ADDRESS: whether a Ray head answers there, found out in seconds. Ray itself goes on trying for minutes."""

from __future__ import annotations

import re
import socket
from typing import Any

from synood_ray.errors import UserError

PATIENCE = 10.0
"""Seconds that the head may take for an answer, each time it is asked."""
_FORM = "write RAY_ADDRESS=HOST:6379, as `ray start --head` prints it"
_TOKEN = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file with the head's own (`ray get-auth-token` there)"


def check_address(address: str) -> None:
    """Raise UserError, in one line, unless a Ray head answers at ``host:port`` and takes our token.

    ``auto`` and ``local`` are Ray's own words and pass.
    """
    if address in ("auto", "local"):
        return
    if re.match(r"https?://", address):
        raise UserError(
            f"RAY_ADDRESS: {address} is a dashboard, for `ray job submit --address {address}`; to join, {_FORM}"
        )
    if "://" in address:
        raise UserError(f"RAY_ADDRESS: {address} is for Ray Client, through which a farm does not work; {_FORM}")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"RAY_ADDRESS: {address!r} has no port; {_FORM}")
    _check_port(address, host.strip("[]"), int(port))
    _check_head(address)


def _check_port(address: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except socket.gaierror as error:
        raise UserError(f"RAY_ADDRESS: {address}: there is no host {host!r} ({error.strerror})") from error
    except OSError as error:  # refused, no way there, no answer in time
        why = error.strerror or f"no answer in {PATIENCE:g} s"
        raise UserError(f"RAY_ADDRESS: no Ray cluster answers at {address} ({why}); is its head running?") from error


def _check_head(address: str) -> None:
    """Ask the head who it is, as Ray's clients do first."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
    from ray.exceptions import AuthenticationError

    request: Any = gcs_service_pb2.GetClusterIdRequest  # type: ignore[attr-defined]
    try:
        channel = init_grpc_channel(address)
        try:
            stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
            stub.GetClusterId(request(), timeout=PATIENCE)
        finally:
            channel.close()
    except grpc.RpcError as error:
        raise UserError(f"RAY_ADDRESS: {address}: {_what(error, grpc.StatusCode)}") from error
    except AuthenticationError as error:
        raise UserError(f"RAY_ADDRESS: {address}: RAY_AUTH_MODE=token, but there is no token; {_TOKEN}") from error


def _what(error: Any, codes: Any) -> str:
    if error.code() in (codes.UNAUTHENTICATED, codes.PERMISSION_DENIED):
        return f"the cluster does not take this token, or asks for one; {_TOKEN}"
    if error.code() is codes.DEADLINE_EXCEEDED:
        return f"the head takes connections but gives no answer in {PATIENCE:g} s; is it overloaded?"
    return f"something answers, but no Ray head ({error.code().name.lower()}); {_FORM}"
