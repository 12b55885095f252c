"""Multimodal LLMs that name an image's context, behind one protocol (`base.Describer`); one file per kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from synood_ray.config.models import DescriberSettings
from synood_ray.models.describers.base import Describer
from synood_ray.models.describers.contexts import TokenCounter, count_clip_tokens


def _recorded(settings: DescriberSettings, count_tokens: TokenCounter, patient: bool) -> Describer:
    from synood_ray.models.describers.recorded import RecordedDescriber

    return RecordedDescriber(settings, count_tokens)


def _endpoint(settings: DescriberSettings, count_tokens: TokenCounter, patient: bool) -> Describer:
    from synood_ray.models.describers.endpoint import EndpointDescriber

    return EndpointDescriber(settings, count_tokens, patient)


def _vllm(settings: DescriberSettings, count_tokens: TokenCounter, patient: bool) -> Describer:
    from synood_ray.models.describers.vllm import VllmDescriber

    return VllmDescriber(settings, count_tokens)


@dataclass(frozen=True)
class Kind:
    """How a describer is opened. sees: whether it can tell what a new image shows (`Describer.shows`)."""

    open: Callable[[DescriberSettings, TokenCounter, bool], Describer]
    sees: bool = True


KINDS: dict[str, Kind] = {
    "contexts": Kind(_recorded, sees=False),
    "endpoint": Kind(_endpoint),
    "model": Kind(_vllm),
}
"""The setting of section `describer` that asks for a kind -> the kind. The first that is set decides."""


def chosen(settings: DescriberSettings) -> str:
    """The setting that decides which kind it is. `describer.model` is always set, so one always does."""
    return next(name for name in KINDS if getattr(settings, name))


def open_describer(
    settings: DescriberSettings, count_tokens: TokenCounter = count_clip_tokens, *, patient: bool = False
) -> Describer:
    """The describer that the settings ask for.

    count_tokens counts for `settings.context_tokens`; the default is CLIP's tokenizer, which the Stable Diffusion
    family shares. patient: wait for a server that cannot be reached, because it could before. Raises UserError in one
    line if something is not there.
    """
    return KINDS[chosen(settings)].open(settings, count_tokens, patient)
