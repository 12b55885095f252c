"""The prompt policies by name, as `sampling.policy` has it."""

from __future__ import annotations

from collections.abc import Callable

from synood_ray.config.settings import Settings
from synood_ray.sampling.prompts.base import Policy
from synood_ray.sampling.prompts.context import ContextPolicy

POLICIES: dict[str, Callable[[Settings], Policy]] = {
    "context": ContextPolicy,
}
