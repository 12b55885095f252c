"""What fits where: the needs of workers against the machines of a cluster. No Ray, no I/O."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from synood_ray.config.pools import PoolSettings
from synood_ray.config.serving import ReplicaSettings
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError

TRAINER, REPLICA = "training worker", "replica"
_FEWER = {TRAINER: "training.workers", REPLICA: "serving.replicas.min"}
"""What to lower where all workers of a role work at the same time."""
FEW = 8
"""Needs for which every way to place them is tried."""


@dataclass(frozen=True)
class Node:
    """A machine as Ray counts it: all it has, whoever uses it now, and its labels."""

    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)

    def fits(self, need: Need) -> bool:
        """Whether it could hold the worker if it were empty."""
        return all(self.resources.get(name, 0.0) >= amount for name, amount in need.resources.items()) and all(
            _selects(wanted, self.labels.get(name)) for name, wanted in need.labels.items()
        )


@dataclass(frozen=True)
class Need:
    """What one worker asks of a machine. role: "sampler"; setting: where that is set, "farm.samplers"."""

    role: str
    setting: str
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, role: str, pool: PoolSettings) -> Need:
        """The need of a pool's workers."""
        amounts = {"CPU": pool.cpus, "GPU": pool.gpus, **pool.resources}
        return cls(role, f"farm.{role}s", {name: amount for name, amount in amounts.items() if amount}, pool.labels)

    def __str__(self) -> str:
        """In words: "1 GPU, 2 CPU, label ray.io/market-type=spot"."""
        return in_words(self.resources, self.labels)


def needs_of(settings: Settings, *, describes: bool = True) -> list[list[Need]]:
    """The workers that must be there at the same time for a synthesis to go on, in every way that their kinds allow.

    describes: a describer is one of them.
    """
    farm = settings.farm
    roles = [_kinds("sampler", farm.samplers)]
    if describes:
        roles.insert(0, _kinds("describer", farm.describers))
    if settings.scorer.placement == "actor":  # samplers ask all of them in turn
        roles += [[Need.of("scorer", farm.scorers)]] * farm.scorers.max
    return [list(needs) for needs in itertools.product(*roles)]


def _kinds(role: str, pool: PoolSettings) -> list[Need]:
    return [Need.of(role, kind) for kind in pool.of_kinds().values()]


def training_needs(settings: Settings) -> list[list[Need]]:
    """The workers of a fine-tuning under Ray Train, which begins when all of them are placed."""
    training = settings.training
    gpus = {"GPU": training.gpus} if training.gpus else {}
    setting = "training.gpus" if training.gpus else "training.workers"
    return [[Need(TRAINER, setting, {"CPU": 1.0, **gpus})] * training.workers]


def replica_need(replicas: ReplicaSettings) -> Need:
    """One replica of the online detector."""
    amounts = {"CPU": replicas.cpus, "GPU": replicas.gpus, **replicas.resources}
    return Need(
        REPLICA, "serving.replicas", {name: amount for name, amount in amounts.items() if amount}, replicas.labels
    )


def check_any(ways: Sequence[Sequence[Need]], nodes: Sequence[Node]) -> None:
    """Raise UserError, that of the first way, if these workers fit in none of the ways."""
    first: UserError | None = None
    for needs in ways:
        try:
            check(needs, nodes)
            return
        except UserError as error:
            first = first or error
    if first:
        raise first


def check(needs: Sequence[Need], nodes: Sequence[Node]) -> None:
    """Raise UserError, naming the settings to change, if these workers do not fit on these nodes at the same time."""
    for need in needs:
        if not any(node.fits(need) for node in nodes):
            raise UserError(f"{need.setting}: a {need.role} needs {need}, and no node has that ({in_all(nodes)})")
    hardest = sorted(needs, key=lambda need: (need.resources.get("GPU", 0), need.resources.get("CPU", 0)), reverse=True)
    if not _place(hardest, [dict(node.resources) for node in nodes], nodes):
        counted = Counter((need.role, str(need)) for need in needs)
        each = " and ".join(f"{count} {role}{'s' * (count > 1)} of {what}" for (role, what), count in counted.items())
        raise UserError(
            f"{', '.join(_settings(needs))}: {each} work at the same time, and there is not room for all "
            f"({in_all(nodes)}); {_cure(needs)}"
        )


def _cure(needs: Sequence[Need]) -> str:
    """What to change so that they fit."""
    if needs[0].role in _FEWER:
        return f"take fewer {_FEWER[needs[0].role]}, or add machines"
    if any("GPU" in need.resources for need in needs):
        return (
            "let them share a GPU, as --preset workstation does for photos (--farm.describers.gpus 0.5 "
            "--farm.samplers.gpus 0.5 --describer.gpu_memory_utilization 0.45), or add machines"
        )
    return "take smaller shares (" + " ".join(f"--{name}.cpus 0.5" for name in _settings(needs)) + "), or add machines"


def _settings(needs: Sequence[Need]) -> list[str]:
    return list(dict.fromkeys(need.setting for need in needs))


def _place(needs: Sequence[Need], free: list[dict[str, float]], nodes: Sequence[Node]) -> bool:
    """Whether all fit, each somewhere. Of many needs each takes the first place that it finds."""
    if not needs:
        return True
    tried = set()
    need, rest = needs[0], needs[1:]
    for node, left in zip(nodes, free, strict=True):
        state = (tuple(sorted(left.items())), tuple(sorted(node.labels.items())) if need.labels else ())
        if state in tried or not Node(left, node.labels).fits(need):
            continue
        tried.add(state)
        _take(left, need, 1)
        if _place(rest, free, nodes):
            return True
        _take(left, need, -1)
        if len(needs) > FEW:
            break
    return False


def _take(left: dict[str, float], need: Need, times: int) -> None:
    for name, amount in need.resources.items():
        left[name] = round(left[name] - times * amount, 4)


def in_words(resources: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """Resources and labels: "1 GPU, 2 CPU, label market=spot"; "nothing" without any."""
    words = [f"{amount:g} {name}" for name, amount in sorted(resources.items(), key=lambda one: one[0] != "GPU")]
    return ", ".join([*words, *(f"label {name}={value}" for name, value in labels.items())]) or "nothing"


def in_all(nodes: Sequence[Node]) -> str:
    """What there is: "2 nodes, 8 CPU and 1 GPU in all"."""
    cpus, gpus = (sum(node.resources.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU"))
    return f"{len(nodes)} node{'s' * (len(nodes) != 1)}, {cpus:g} CPU and {gpus:g} GPU in all"


def _selects(wanted: str, found: str | None) -> bool:
    """Ray's label selectors: a value, ``!value``, ``in(a,b)`` or ``!in(a,b)``."""
    negated, wanted = wanted.startswith("!"), wanted.removeprefix("!")
    listed = re.fullmatch(r"in\((.*)\)", wanted)
    values = [value.strip() for value in listed[1].split(",")] if listed else [wanted]
    return (found in values) is not negated
