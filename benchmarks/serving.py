"""The online detector under load on loopback, beside calls of the same detector in this process.

Three ways in turn, over and over, each with the same encoded images: in this process, in batches; posted as forms of a
batch, by a few clients; posted one by one, by many. All of them may use every core: torch has as many threads here as
the replica has CPUs, and what the clients do weighs on the service.
"""

from __future__ import annotations

import http.client
import itertools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.comparison import compare
from benchmarks.local_cluster import local_cluster
from benchmarks.targets import Target
from synood_ray.config.serving import ServingSettings
from synood_ray.config.settings import Settings

BATCH = 32
CLIENTS = {"forms": 3, "singles": 32}
"""Way of posting -> how many do so at the same time."""
_BOUNDARY = "between-two-images"


class Post(NamedTuple):
    """The body of a request and its type."""

    body: bytes
    kind: str


def benchmark(
    settings: Settings, run: str, images: int = 384, blocks: int = 16, cores: int | None = None
) -> dict[str, Any]:
    """run: a run with a detector. images: of one block, those that the settings name, over and over. cores: of both.

    Ratios are of images a second, a pair a block; latency: seconds of a request, p50 and p95 over all blocks.
    """
    import torch

    from synood_ray import Detector
    from synood_ray.serving.running import bring_up, find_detector

    run = str(Path(run).absolute()) if Path(run).exists() else run
    find_detector(run)
    cores = cores or os.cpu_count() or 1
    data, served = _images(settings, images), _served(settings, cores)
    posts = {
        "forms": [_form(data[at : at + BATCH]) for at in range(0, images, BATCH)],
        "singles": [Post(one, "image/any") for one in data],
    }
    rates: dict[str, list[float]] = {name: [] for name in ("in_process", *posts)}
    seconds: dict[str, list[list[float]]] = {name: [] for name in posts}
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        with local_cluster(cores):
            bring_up(run, served, settings.log, lambda line: print(line, flush=True))
            detector = Detector.load(run)
            for _ in range(1 + blocks):
                begin = time.perf_counter()
                detector(data, batch_size=BATCH)
                rates["in_process"].append(images / (time.perf_counter() - begin))
                for name, several in posts.items():
                    taken, lasted = _load(served, several, CLIENTS[name])
                    rates[name].append(images / lasted)
                    seconds[name].append(taken)
    finally:
        torch.set_num_threads(before)
    after_the_first = {name: found[1:] for name, found in rates.items()}  # whose caches were cold
    return {
        "images": images,
        "cores": cores,
        "clients": CLIENTS,
        "latency": {name: _quantiles(found[1:]) for name, found in seconds.items()},
        "over_in_process": {
            name: compare(after_the_first[name], after_the_first["in_process"]).as_dict() for name in posts
        },
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
