"""Images by address: http and https only, no private network unless it is allowed, so much and so long at most.

The connection goes to the very IP that was checked: a name that resolves anew, to another one, gains nothing.
Redirects are followed, each checked as the first.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
from collections.abc import Sequence

import httpx

from synood_ray.config.serving import ServingSettings
from synood_ray.serving.refused import Refused
from synood_ray.serving.uploads import Picture

REDIRECTS = 3
_AGENT = {"User-Agent": "synood_ray", "Accept": "image/*", "Accept-Encoding": "identity"}


async def fetch_all(urls: Sequence[str], settings: ServingSettings) -> list[Picture | Refused]:
    """What each address leads to, in order, or why not. All of them share `max_bytes` and `url_timeout`."""
    budget = _Budget(settings.max_bytes)
    async with httpx.AsyncClient(timeout=settings.url_timeout, trust_env=False, verify=_certificates()) as client:
        tasks = [asyncio.create_task(_fetch(client, url, settings, budget)) for url in urls]
        await asyncio.wait(tasks, timeout=settings.url_timeout)
        late = Refused(422, f"The address did not answer within {settings.url_timeout:g} seconds.")
        found = [task.result() if task.done() else late for task in tasks]
        for task in tasks:
            task.cancel()
        return found


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Read once, which takes tens of milliseconds. The client is each request's own: cookies and connections of one
    would go to the next one's hosts, which may have the same IP."""
    return httpx.create_ssl_context(trust_env=False)


class _Budget:
    """Bytes that a request may still bring."""

    def __init__(self, left: int) -> None:
        self.all = self.left = left

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise Refused(413, f"The addresses lead to more than {self.all} bytes.")


async def _fetch(client: httpx.AsyncClient, url: str, settings: ServingSettings, budget: _Budget) -> Picture | Refused:
    try:
        return Picture(url, await _follow(client, url, settings, budget))
    except Refused as refused:
        return refused
    except httpx.HTTPError as error:
        return Refused(422, f"The address cannot be read: {type(error).__name__}.")


async def _follow(client: httpx.AsyncClient, url: str, settings: ServingSettings, budget: _Budget) -> bytes:
    for _ in range(1 + REDIRECTS):
        named = check_url(url, settings.url_hosts)
        address = await _resolve(named, private=settings.urls == "any")
        request = client.build_request(
            "GET",
            named.copy_with(host=address),
            headers={**_AGENT, "Host": named.netloc.decode("ascii")},
            extensions={"sni_hostname": named.host},  # TLS is with the host that was named
        )
        answer = await client.send(request, stream=True)
        try:
            if answer.has_redirect_location:
                url = str(named.join(answer.headers["location"]))
                continue
            if answer.status_code != 200:
                raise Refused(422, f"The address answers with status {answer.status_code}.")
            return await _read(answer, budget)
        finally:
            await answer.aclose()
    raise Refused(422, f"The address leads on more than {REDIRECTS} times.")


async def _read(answer: httpx.Response, budget: _Budget) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_raw():
        budget.take(len(chunk))
        body += chunk
    return bytes(body)


def check_url(url: str, hosts: Sequence[str]) -> httpx.URL:
    """The address, parsed. Raises Refused unless it is of http or https, without a password, on one of the hosts
    (or below one; none: every host)."""
    try:
        named = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise Refused(422, "The address cannot be read.") from error
    if named.scheme not in ("http", "https") or not named.host:
        raise Refused(422, "The address must begin with http:// or https://.")
    if not 0 < (named.port or 1) < 65536:
        raise Refused(422, "The address has a port that there is not.")
    if named.userinfo:
        raise Refused(422, "The address must have no user or password in it.")
    host = named.host.rstrip(".").lower()
    if hosts and not any(host == one.lower() or host.endswith(f".{one.lower()}") for one in hosts):
        raise Refused(403, "Addresses on this host are not taken here.")
    return named


async def _resolve(named: httpx.URL, *, private: bool) -> str:
    """An IP address of the host, checked. Raises Refused."""
    port = named.port or (443 if named.scheme == "https" else 80)
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(named.host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Refused(422, "The host of the address is not known.") from error
    addresses = [str(one[4][0]) for one in found]
    if not private and not all(is_public(address) for address in addresses):
        raise Refused(403, "Addresses in private networks are not taken here.")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is of the open internet: none of this machine, of its networks, or of many receivers."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None and not is_public(str(inner)):
            return False
        if ip in _NAT64 and not is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))):
            return False
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
