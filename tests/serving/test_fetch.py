"""Images by address: which ones are taken, and a real server that behaves well or badly."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from synood_ray.config.serving import ServingSettings
from synood_ray.serving.fetch import _certificates, check_url, fetch_all, is_public
from synood_ray.serving.refused import Refused
from synood_ray.serving.uploads import Picture
from tests.serving.worlds import World, encoded


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # what clouds tell about a machine, with its keys
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),  # 6to4 of 127.0.0.1
        ("64:ff9b::7f00:1", False),  # NAT64 of 127.0.0.1
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "/etc/passwd", "ftp://example.org/a.png", "s3://bucket/a.png", "gopher://example.org",
        "http://", "https:///a.png", "http://user:word@example.org/a.png", "javascript:alert(1)", "",
        "http://example.org:99999/", "data:image/png;base64,AAAA",
    ],
)  # fmt: skip
def test_addresses_that_are_never_taken(url: str) -> None:
    with pytest.raises(Refused) as refused:
        check_url(url, [])
    assert refused.value.status == 422 and "word" not in str(refused.value).replace("password", "")


def test_hosts() -> None:
    hosts = ["Example.org", "10.0.0.7"]
    for url in ("https://example.org/a", "http://img.example.org:81/a", "http://10.0.0.7/a", "https://EXAMPLE.org./a"):
        check_url(url, hosts)
    for url in ("https://badexample.org/a", "https://example.org.evil.net/a", "http://110.0.0.7/a"):
        with pytest.raises(Refused) as refused:
            check_url(url, hosts)
        assert refused.value.status == 403


class Handler(BaseHTTPRequestHandler):
    """Paths are what it does."""

    seen: list[tuple[str, str]]  # path, Host
    cookies: list[str | None]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Host"]))
        self.cookies.append(self.headers["Cookie"])
        kind, _, more = self.path[1:].partition("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", more.replace("~", "/"))
            self.end_headers()
        elif kind == "status":
            self.send_error(int(more))
        elif kind == "late":
            time.sleep(float(more))
        elif kind == "drip":  # an announced length that never comes
            self.send_response(200)
            self.end_headers()
            for _ in range(10_000):
                self.wfile.write(bytes(1000))
        else:
            self.send_response(200)
            self.send_header("Set-Cookie", "secret=1")
            self.end_headers()
            self.wfile.write(encoded())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    Handler.seen, Handler.cookies = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.daemon_threads = True
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://localhost:{found.server_address[1]}"
        found.shutdown()


def fetch(*urls: str, **settings: Any) -> list[Picture | Refused]:
    return asyncio.run(fetch_all(urls, ServingSettings(**{"urls": "any", **settings})))


def refusal(found: Picture | Refused) -> tuple[int, str]:
    assert isinstance(found, Refused), found
    return found.status, str(found)


def test_a_picture_by_its_address(server: str) -> None:
    assert fetch(f"{server}/a.png") == [Picture(f"{server}/a.png", encoded())]
    assert Handler.seen[-1] == ("/a.png", server.removeprefix("http://")), "the host is told by its name"


def test_requests_share_certificates_and_nothing_else(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read, made = httpx.create_ssl_context, list[str]()
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **options: made.append("one") or read(**options))
    _certificates.cache_clear()
    for name in "abc":
        fetch(f"{server}/{name}.png")
    assert made == ["one"] and Handler.cookies[-3:] == [None] * 3


def test_a_redirect_is_followed_and_checked(server: str) -> None:
    assert isinstance(fetch(f"{server}/to/~a.png")[0], Picture)
    assert refusal(fetch(f"{server}/to/file:~~~etc~passwd")[0])[0] == 422
    port = server.rpartition(":")[2]
    away = fetch(f"{server}/to/http:~~127.0.0.1:{port}~secret", url_hosts=["localhost"])
    assert refusal(away[0])[0] == 403
    assert not any(path == "/secret" for path, _ in Handler.seen)
    assert "leads on" in refusal(fetch(f"{server}/to/")[0])[1]


def test_private_networks_are_refused_before_anything_is_sent(server: str) -> None:
    before = len(Handler.seen)
    found = fetch(f"{server}/a.png", server.replace("localhost", "127.0.0.1"), "http://[::1]/", urls="public")
    assert [refusal(one)[0] for one in found] == [403, 403, 403]
    assert len(Handler.seen) == before


def test_what_goes_wrong_is_told_by_address(server: str) -> None:
    closed = "http://127.0.0.1:1/a.png"
    found = fetch(f"{server}/status/404", closed, f"{server}/a.png", "http://no-such-host.invalid/")
    assert "status 404" in refusal(found[0])[1] and "ConnectError" in refusal(found[1])[1]
    assert isinstance(found[2], Picture) and "not known" in refusal(found[3])[1]


def test_bytes_are_counted_over_all_addresses(server: str) -> None:
    status, reason = refusal(fetch(f"{server}/drip", max_bytes=5000)[0])
    assert status == 413 and "5000 bytes" in reason
    room = int(2.5 * len(encoded()))
    found = fetch(*(f"{server}/{i}.png" for i in range(3)), max_bytes=room)
    assert sorted(isinstance(one, Picture) for one in found) == [False, True, True]


def test_an_address_that_does_not_answer_holds_nobody_up(server: str) -> None:
    found = fetch(f"{server}/late/3", f"{server}/a.png", url_timeout=0.5)
    assert "within 0.5 seconds" in refusal(found[0])[1] and isinstance(found[1], Picture)


def test_addresses_are_judged_as_files_are(server: str) -> None:
    world = World(urls="any")
    answer = world.client().post("/score", json={"urls": [f"{server}/a.png", f"{server}/status/500"]})
    assert answer.status_code == 200
    first, second = answer.json()["results"]
    assert first["score"] == world.detector(encoded()).score.item() and first["name"] == f"{server}/a.png"
    assert second == {"name": f"{server}/status/500", "error": "The address answers with status 500."}
