"""Settings of the online detector: where it listens, what it takes, and the machines it may have.

A replica is one copy of the detector in a process of its own; requests go to whichever has least to do.
"""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from synood_ray.config.fields import Device, Gpus, Section, Sized, operational


class ReplicaSettings(Sized):
    """How many copies of the detector there are, and what each asks of its machine."""

    min: int = operational(1, "replicas while there is nothing to do", ge=0)
    max: int = operational(1, "most replicas; more than min: Ray Serve adds and takes away by load", ge=1)
    cpus: float = operational(1.0, "logical CPUs of a replica: threads of torch, and images decoded at once", gt=0.0)
    gpus: Gpus = operational(0.0, "GPUs of a replica: an integer, or a share of one")
    resources: dict[str, float] = operational({}, "custom Ray resources of a replica")
    labels: dict[str, str] = operational(
        {}, "Ray node labels a replica asks for, such as ray.io/market-type: on-demand"
    )


class ServingSettings(Section):
    """The online detector: address, limits, replicas."""

    host: str = operational("127.0.0.1", "address to listen on; 0.0.0.0: every one that this machine has")
    port: int = operational(8000, "port to listen on", ge=1, le=65535)
    device: Device = operational("auto", "where the detector runs; auto: a GPU if the replica has one")
    recall: float | None = operational(
        None, "share of held-out ID images that the threshold keeps; none: the detector's own, 0.95", gt=0.0, le=1.0
    )
    max_bytes: int = operational(20_000_000, "longest body of a request; of URLs, all that they lead to", ge=1)
    max_pixels: int = operational(50_000_000, "largest image, width times height", ge=1)
    max_images: int = operational(64, "most images of one request", ge=1)
    rate: float | None = operational(
        None, "images a second that one client, by address, may send to a replica; none: any number", gt=0.0
    )
    burst: int = operational(256, "images that a client may send at once before serving.rate holds it back", ge=1)
    urls: Literal["none", "public", "any"] = operational(
        "none", "images by http(s) address: none: refused; public: not from private networks; any: from those too"
    )
    url_hosts: list[str] = operational([], "hosts that addresses may name, with all below them; none named: every one")
    url_timeout: float = operational(10.0, "seconds in which all addresses of a request must have answered", gt=0.0)
    batch_size: int = operational(32, "most images judged at once, of one request or of many", ge=1)
    batch_wait: float = operational(0.005, "seconds that an image waits for others to be judged with", ge=0.0)
    concurrent: int = operational(
        16,
        "requests that a replica works on at once; with replicas.max: half of it on each is what Serve aims at",
        ge=1,
    )
    queue: int = operational(64, "requests that wait for a replica; the next is answered 503; -1: any number", ge=-1)
    timeout: float = operational(
        60.0, "seconds from a request's beginning to its answer, its sending and waiting included; then 408", gt=0.0
    )
    replicas: ReplicaSettings = ReplicaSettings()

    @model_validator(mode="after")
    def _a_request_fits(self) -> ServingSettings:
        if self.rate is not None and self.burst < self.max_images:
            raise ValueError(
                f"burst ({self.burst}) is less than max_images ({self.max_images}): such a request would never be taken"
            )
        return self
