"""What the driver uses of Ray, in this process: a call is done when it is made. Fast, and the same every time."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synood_ray.farm import driver
from tests.farm.stubs import StubDescriber, StubSampler


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Reference:
    def __init__(self, work: Callable[[], Any]) -> None:
        self.answer: Any = None
        self.error: RayTaskError | None = None
        try:
            self.answer = work()
        except Exception as error:
            self.error = RayTaskError(error)


class Handle:
    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def __getattr__(self, method: str) -> Any:
        call = (lambda question: "here") if method == "__ray_call__" else getattr(self.actor, method)
        return SimpleNamespace(remote=lambda *arguments: Reference(lambda: call(*arguments)))


def get(reference: Reference) -> Any:
    if reference.error is not None:
        raise reference.error
    return reference.answer


def local_ray() -> SimpleNamespace:
    """A stand-in for the module."""
    return SimpleNamespace(
        __version__="here",
        is_initialized=lambda: True,
        remote=lambda **options: lambda cls: SimpleNamespace(remote=lambda *arguments: Handle(cls(*arguments))),
        wait=lambda references, num_returns, timeout: (references[:num_returns], references[num_returns:]),
        get=get,
        kill=lambda handle, no_restart: None,
        exceptions=SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError),
        _private=SimpleNamespace(state=SimpleNamespace(state=SimpleNamespace(get_draining_nodes=dict))),
    )


def use_local_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every driver made from now on works in this process, with workers that need no models."""
    monkeypatch.setitem(sys.modules, "ray", local_ray())
    local = functools.partial(driver.Driver, describer=StubDescriber, sampler=StubSampler)
    monkeypatch.setattr(driver, "Driver", local)


def make_images(folder: Path, count: int) -> Path:
    """A folder of two classes with count images in each, no two of them alike."""
    pixels = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(pixels.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / name / f"{i:03d}.png")
    return folder
