"""The settings of the farm: pools of actors, units of work, and what happens when something dies."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from synood_ray.config.fields import Gpus, Section, Sized, operational


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class PoolSettings(Sized):
    """Size and machine needs of one pool of actors."""

    min: int = operational(0, "fewest actors while the stage has work", ge=0)
    max: int = operational(1, "most actors", ge=0)
    cpus: float = operational(1.0, "logical CPUs per actor", ge=0.0)
    gpus: Gpus = operational(0.0, "GPUs per actor: an integer, or 1/k")
    resources: dict[str, float] = operational({}, "custom Ray resources per actor")
    labels: dict[str, str] = operational({}, "Ray node labels an actor asks for, such as ray.io/market-type: spot")

    kinds: dict[str, str] = operational(
        {},
        "machines to ask for, the preferred first: name -> what differs, as cpus=, gpus=, a resource= or "
        "a label=, with blanks between (spot: ray.io/market-type=spot)",
    )
    patience: float = operational(120.0, "seconds an actor waits for a machine of one kind before the next", gt=0.0)

    def of_kinds(self) -> dict[str, PoolSettings]:
        """What an actor of each kind asks for, by name, in order of preference; one kind "" where none are named."""
        return {name: self._of_kind(name, text) for name, text in self.kinds.items()} or {"": self}

    def _of_kind(self, name: str, text: str) -> PoolSettings:
        found: dict[str, Any] = {"resources": dict(self.resources), "labels": dict(self.labels), "kinds": {}}
        for word in text.split():
            key, equals, value = word.partition("=")
            if not (key and equals and value):
                raise ValueError(f"kind {name!r}: {word!r} is not name=value")
            amount = _number(value)
            if key in ("cpus", "gpus"):
                found[key] = value
            elif amount is None:
                found["labels"][key] = value
            else:
                found["resources"][key] = amount
        return PoolSettings.model_validate(self.model_dump() | found)

    @model_validator(mode="after")
    def _kinds_can_be_read(self) -> PoolSettings:
        for name, text in self.kinds.items():
            self._of_kind(name, text)
        return self


class FarmSettings(Section):
    """Ray actors, units of work and what happens when something dies."""

    unit_size: int = Field(32, ge=1, description="samples per unit: committed at once, what a lost machine may cost")
    describers: PoolSettings = operational(PoolSettings(), "pool of vLLM engines")
    samplers: PoolSettings = operational(PoolSettings(max=2), "pool of diffusion workers")
    scorers: PoolSettings = operational(PoolSettings(), "pool of CLIP scorers, with scorer.placement: actor")
    max_attempts: int = operational(3, "attempts per unit before it is quarantined", ge=1)
    unit_deadline: float = operational(1800.0, "seconds after which a unit's worker counts as hung", gt=0.0)
    setup_grace: float = operational(1800.0, "seconds an actor may take to load before it is replaced", gt=0.0)
    idle_grace: float = operational(60.0, "seconds an actor may have nothing to do before it is let go", ge=0.0)
    in_flight: int = operational(2, "units handed to a ready worker at once", ge=1)
    max_quarantined: int = operational(0, "quarantined units tolerated before the job ends with exit code 3", ge=0)
    status_every: float = operational(10.0, "seconds between progress lines when there is no terminal", gt=0.0)
    budget_accepted: int | None = operational(None, "end, to be resumed, when so many samples are accepted", ge=1)
    budget_gpu_hours: float | None = operational(
        None, "end, to be resumed, when this call's workers have held GPUs for so many hours", gt=0.0
    )
    on_finish: str | None = operational(
        None,
        "told when the run ends, done or failed: a command (the status as JSON on its input), or a URL (POST); not "
        "stored with the run",
        secret=True,
    )
    threads: int = operational(0, "threads of torch and NumPy per actor; 0: its logical CPUs", ge=0)

    @model_validator(mode="after")
    def _somebody_works(self) -> FarmSettings:
        if self.scorers.kinds:
            raise ValueError(
                "scorers.kinds: scorers are of one kind; say what they need in scorers.resources and labels"
            )
        for name in ("describers", "samplers"):
            if getattr(self, name).max < 1:
                raise ValueError(f"{name}.max must be at least 1: nothing is made without one")
        return self
