"""What the sections of the settings are built from. This module imports pydantic only."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator


def operational(default: Any, description: str, *, secret: bool = False, **limits: Any) -> Any:
    """A field that changes how or where the work is done, not what comes out. secret: a key may be in its value, which
    is neither stored with the run nor shown."""
    return Field(default, description=description, json_schema_extra={"operational": True, "secret": secret}, **limits)


def earlier(default: Any, before: Any, description: str, **limits: Any) -> Any:
    """A field that came after runs were made without it: those count as having ``before``."""
    return Field(default, description=description, json_schema_extra={"before": before}, **limits)


def before(model: type[BaseModel]) -> dict[str, Any]:
    """What runs count as having that were made before a setting came (`earlier`): nested, by field."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= {name: inner} if (inner := before(field.annotation)) else {}
        elif isinstance(extra, dict) and "before" in extra:
            found[name] = extra["before"]
    return found


def without_secrets(values: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """A section's values, nested, with the default in place of what is secret."""
    found = dict(values)
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and name in values:
            found[name] = without_secrets(values[name], field.annotation)
        elif isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("secret"):
            found[name] = field.default
    return found


Device = Literal["auto", "cpu", "cuda"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _whole_or_less_than_one(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():  # infinity is none either
        raise ValueError(f"must be an integer, or less than 1 for a share of one GPU, not {gpus:g}")
    return gpus


Gpus = Annotated[float, Field(ge=0.0), AfterValidator(_whole_or_less_than_one)]
"""An integer, or a share of one GPU."""


def _interval(value: Any) -> Any:
    """[low, high], or one number b for [-b, b]."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"must be two numbers such as [0.1, 1.1], or one, b, for [-b, b], not {value!r}") from None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [-float(value), float(value)]
    numbers = isinstance(value, (list, tuple)) and all(isinstance(x, (int, float)) for x in value)
    if not numbers or len(value) != 2 or not all(map(math.isfinite, value)):
        raise ValueError(f"must be two numbers such as [0.1, 1.1], or one, b, for [-b, b], not {value!r}")
    if not value[0] < value[1]:
        raise ValueError(f"must have its lower edge first, but is [{value[0]:g}, {value[1]:g}]")
    return list(value)


def _short(value: list[float]) -> list[float] | float:
    """One number where an interval lies evenly about 0: what runs of version 0.1.0 have."""
    return value[1] if value[0] == -value[1] else value


Interval = Annotated[list[float], BeforeValidator(_interval), PlainSerializer(_short)]
"""[low, high], low < high; a single number b stands for [-b, b]."""


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are checked on assignment too."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=(), allow_inf_nan=False)


class Sized(Section):
    """A section with the fewest and the most of something."""

    min: int
    max: int

    @model_validator(mode="after")
    def _sizes_fit(self) -> Sized:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is larger than max ({self.max})")
        return self
