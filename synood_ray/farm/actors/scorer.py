"""The scorer behind an actor: the same class, reached through Ray's object store."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from synood_ray.config.settings import Settings
from synood_ray.farm.actors.named import Named, made_once
from synood_ray.farm.preparing import open_scorer
from synood_ray.logs import heard

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from synood_ray.models.scorer import Judged, Objective, Scorer


class ScorerActor(Named):
    """Holds one CLIP for several samplers. Images travel as [B, 3, H, W] float32 arrays."""

    def __init__(self, settings: dict[str, Any], output: str, class_names: list[str]) -> None:
        self.settings = Settings.model_validate(settings)
        self.start_log(self.settings.log, output)
        self.output, self.class_names = output, class_names
        self.warned: list[str] = []

    @made_once
    def scorer(self) -> Scorer:
        with heard() as lines:
            opened = open_scorer(self.settings, self.open_run(self.output), self.class_names)
        self.warned = lines
        return opened

    def open(self) -> list[str]:
        """Have the model loaded, and what is made with it once a run: negative labels, related classes. Returns what
        libraries have warned about."""
        self.scorer  # noqa: B018 - made on first use
        return self.warned

    def call(self, method: str, arrays: tuple[Any, ...]) -> Any:
        """Call a `Scorer` method on tensors given as NumPy arrays; tensors come back as arrays."""
        import torch

        arguments = [torch.from_numpy(a.copy()) if hasattr(a, "dtype") else a for a in arrays]
        return _arrays(getattr(self.scorer, method)(*arguments))


class RemoteScorer:
    """`Scorer`'s methods that a sampler needs, carried out by one of the `ScorerActor`s in turn."""

    def __init__(self, actors: list[Any]) -> None:
        self.actors = actors
        self.turn = os.getpid()

    def open(self) -> None:
        """Wait until one of them is open; what it was warned about is warned about here."""
        import ray

        for line in ray.get(self.actors[0].open.remote()):
            warnings.warn(line, stacklevel=2)

    def score(self, images: Tensor) -> Tensor:
        return self._call("score", images)

    def judge(self, images: Tensor) -> Judged:
        from synood_ray.models.scorer import Judged

        return Judged(*self._call("judge", images))

    def judge_with_gradient(self, images: Tensor, objective: Objective | None = None) -> tuple[Judged, Tensor]:
        from synood_ray.models.scorer import Judged

        judged, gradient = self._call("judge_with_gradient", images, objective)
        return Judged(*judged), gradient

    def encode_names(self, words: list[str]) -> Tensor:
        return self._call("encode_names", words)

    def _call(self, method: str, *arguments: Any) -> Any:
        import ray
        import torch

        arrays = tuple(a.detach().cpu().numpy() if isinstance(a, torch.Tensor) else a for a in arguments)
        self.turn += 1
        result = ray.get(self.actors[self.turn % len(self.actors)].call.remote(method, arrays))
        return _tensors(result, getattr(arguments[0], "device", torch.device("cpu")))


def _arrays(result: Any) -> Any:
    """Tensors as NumPy arrays, in tuples as they are."""
    return tuple(map(_arrays, result)) if isinstance(result, tuple) else result.cpu().numpy()


def _tensors(result: Any, device: torch.device) -> Any:
    """The reverse of `_arrays`."""
    import torch

    if isinstance(result, tuple):
        return tuple(_tensors(one, device) for one in result)
    return torch.from_numpy(result.copy()).to(device)
