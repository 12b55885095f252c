"""The online detector under load on loopback, beside calls of the same detector in this process.

Four ways in turn, over and over, with the same encoded images: forms of a batch, posted by a few clients, beside
batches in this process; single images, posted by many clients, beside calls with one. torch has as many threads here
as the replica has CPUs, and what the clients do weighs on the service.
"""

from __future__ import annotations

import http.client
import itertools
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.comparison import compare
from benchmarks.local_cluster import local_cluster
from benchmarks.targets import Target
from synood_ray.config.serving import ServingSettings
from synood_ray.config.settings import Settings

if TYPE_CHECKING:
    from synood_ray import Detector

BATCH = 32
CLIENTS = {"forms": 3, "singles": 32}
"""Way of posting -> how many do so at the same time."""
_BOUNDARY = "between-two-images"


class Post(NamedTuple):
    """The body of a request and its type."""

    body: bytes
    kind: str


def benchmark(settings: Settings, run: str, images: int = 384, blocks: int = 16, cores: int = 1) -> dict[str, Any]:
    """Start the service of a run's detector and `measure` it. cores: of the replica, and threads of this process."""
    import torch

    from synood_ray import Detector
    from synood_ray.serving.running import deploy, find_detector, start

    run = str(Path(run).absolute()) if Path(run).exists() else run
    find_detector(run)
    data, served = _images(settings, images), _served(settings, cores)
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        with local_cluster(cores, niceness=0):  # as `synood serve` has it, and as calls in this process have
            start(served, lambda line: print(line, flush=True))
            deploy(run, served, settings.log, lambda line: print(line, flush=True))
            return {"cores": cores, **measure(served, Detector.load(run), data, blocks)}
    finally:
        torch.set_num_threads(before)


def measure(
    served: ServingSettings, detector: Detector, data: list[bytes], blocks: int, clients: Mapping[str, int] = CLIENTS
) -> dict[str, Any]:
    """A service beside its detector in this process. data: the encoded images of one block, a multiple of `BATCH`.

    Ratios are of images a second, a pair a block; latency: seconds of a request, p50 and p95 over all blocks.
    """
    posts = {
        "forms": [_form(data[at : at + BATCH]) for at in range(0, len(data), BATCH)],
        "singles": [Post(one, "image/any") for one in data],
    }
    sizes = {"forms": BATCH, "singles": 1}
    ours: dict[str, list[float]] = {name: [] for name in posts}
    bare: dict[str, list[float]] = {name: [] for name in posts}
    seconds: dict[str, list[list[float]]] = {name: [] for name in posts}
    for _ in range(1 + blocks):
        for name, several in posts.items():
            begin = time.perf_counter()
            for at in range(0, len(data), sizes[name]):
                detector(data[at : at + sizes[name]])
            bare[name].append(len(data) / (time.perf_counter() - begin))
            taken, lasted = _load(served, several, clients[name])
            ours[name].append(len(data) / lasted)
            seconds[name].append(taken)
    return {
        "images": len(data),
        "clients": dict(clients),
        # without the first block, whose caches were cold
        "latency": {name: _quantiles(taken[1:]) for name, taken in seconds.items()},
        "over_in_process": {name: compare(ours[name][1:], bare[name][1:]).as_dict() for name in posts},
    }


def targets(figures: dict[str, Any]) -> list[Target]:
    """Of forms: images that come one by one cost a request each, which is no matter of the detector."""
    ratio = figures["over_in_process"]["forms"]
    what = f"images per second, service / in process, forms of {BATCH}"
    return [Target(what, ratio["ratio"], 0.9, interval=(ratio["low"], ratio["high"]))]


def show(figures: dict[str, Any]) -> None:
    """Print rates and latencies of each way of posting."""
    for name, clients in figures["clients"].items():
        ratio, latency = figures["over_in_process"][name], figures["latency"][name]
        print(
            f"{name}, {clients} clients: {np.median(ratio['ours']):.0f} images a second, in process "
            f"{np.median(ratio['bare']):.0f}: {ratio['ratio']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]; "
            f"a request {1000 * latency['p50']:.0f} ms (p50), {1000 * latency['p95']:.0f} ms (p95)"
        )


def _images(settings: Settings, count: int) -> list[bytes]:
    from synood_ray.data.source import open_source

    source = open_source(settings.data.uri, settings.data)
    return [source.read(one) for one in itertools.islice(itertools.cycle(source.scan().images), count)]


def _served(settings: Settings, cores: int) -> ServingSettings:
    found = settings.serving.model_copy(deep=True)
    found.batch_size, found.rate, found.replicas.cpus = BATCH, None, cores
    return found


def _form(images: Sequence[bytes]) -> Post:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n'.encode()
    body = b"".join(head + one + b"\r\n" for one in images) + f"--{_BOUNDARY}--\r\n".encode()
    return Post(body, f"multipart/form-data; boundary={_BOUNDARY}")


def _load(served: ServingSettings, posts: Sequence[Post], clients: int) -> tuple[list[float], float]:
    """Post all of them, so many clients at once: seconds of each request, and of all together."""
    waiting = iter(posts)

    def client(_: int) -> list[float]:
        taken = []
        with closing(http.client.HTTPConnection(served.host, served.port, timeout=300)) as connection:
            while (post := next(waiting, None)) is not None:
                begin = time.perf_counter()
                connection.request("POST", "/score", post.body, {"Content-Type": post.kind})
                answer = connection.getresponse()
                text = answer.read()
                taken.append(time.perf_counter() - begin)
                if answer.status != 200 or b'"error"' in text:
                    raise RuntimeError(f"status {answer.status}: {text[:300]!r}")
        return taken

    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        taken = list(itertools.chain.from_iterable(pool.map(client, range(clients))))
    return taken, time.perf_counter() - begin


def _quantiles(blocks: Sequence[Sequence[float]]) -> dict[str, float]:
    seconds = np.concatenate([np.asarray(block) for block in blocks])
    return {"p50": float(np.quantile(seconds, 0.5)), "p95": float(np.quantile(seconds, 0.95))}
