"""RAY_ADDRESS: every way to get it wrong is one line within seconds."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from synood_ray.errors import UserError
from synood_ray.farm import address
from synood_ray.farm.address import check_address


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("http://head:8265", "is a dashboard, for `ray job submit --address http://head:8265`"),
        ("ray://head:10001", "Ray Client"),
        ("head", "'head' has no port; write RAY_ADDRESS=HOST:6379"),
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1 (Connection refused); is its head running?"),
        ("no-such-host.invalid:6379", "there is no host 'no-such-host.invalid'"),
    ],
)
def test_what_is_no_address(given: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        check_address(given)
    assert str(caught.value).startswith("RAY_ADDRESS: ") and told in str(caught.value)


def test_rays_own_words_pass() -> None:
    check_address("auto")
    check_address("local")


@pytest.fixture
def page() -> Iterator[str]:
    """A server that is no Ray head."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_another_server(page: str) -> None:
    with pytest.raises(UserError, match="something answers, but no Ray head"):
        check_address(page)


def test_one_that_takes_connections_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "PATIENCE", 0.3)
    refused = pytest.raises(UserError, match=r"gives no answer in 0\.3 s")
    with socket.create_server(("127.0.0.1", 0)) as silent, refused:
        check_address(f"127.0.0.1:{silent.getsockname()[1]}")
