"""What a command of `synood` is: its options, the settings it takes, and what it does with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from synood_ray.cli.layers import DEFAULT_PRESET, Layer, preset_names, resolve
from synood_ray.cli.tree import leaves, value_of
from synood_ray.config.settings import Settings, from_stored

ALL = tuple(Settings.model_fields)
"""Every section and setting."""

RUN = {"--run URI": "the run: the folder or s3:// location that was --output"}
START = {
    "--preset NAME": f"start from a bundled preset: {', '.join(preset_names())} (default: {DEFAULT_PRESET}, unless "
    "--config or an option names a model; then from the defaults)",
    "--config FILE": "YAML file with settings, over the preset's",
}
LOGGING = {
    "--log-level LEVEL": "what is logged, here to standard error and by every worker: debug, info, warning, error",
    "--log-json": "log as JSON, one object per line",
}
"""Options of commands on a run, of those whose settings start from presets and files, and of all."""


@dataclass(frozen=True)
class Command:
    """One command.

    options: as they are typed -> help; one with a word behind it ("--run URI") takes a value, the others take none.
    needs: options without which there is nothing to do; data and output may also come from a preset or a file.
    settings: the sections and settings that its command line may set; often: those that its first help page shows.
    examples: arguments worth showing. run: called with the parsed arguments, returns the exit code.
    """

    name: str
    about: str
    run: Callable[[Arguments], int]
    options: Mapping[str, str]
    needs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    often: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    @property
    def takes(self) -> dict[str, bool]:
        """Name of every option -> whether it takes a value."""
        return {option[2:].partition(" ")[0]: " " in option for option in (*self.options, *LOGGING)}

    @property
    def starts(self) -> bool:
        """Whether its settings come from presets and files; those of the others come from a run."""
        return "preset" in self.takes


@dataclass(frozen=True)
class Arguments:
    """A command line. options: the command's own by name, those without a value as "".

    settings: from preset, file and command line; of a command on a run, how to log (the rest: `over`). origins: where
    each that is not a default came from. layer: what the command line gave. assumed: the models are those of the
    default preset, and nobody asked for them.
    """

    options: dict[str, str]
    settings: Settings
    origins: dict[str, str]
    layer: Layer
    assumed: bool = False

    def over(self, stored: Mapping[str, Any]) -> Settings:
        """A run's stored settings with this command line's over them. How to log is no matter of the run's."""
        run = from_stored({**stored, "log": {}})
        return resolve([self.layer], {path: value_of(run, path) for path in leaves()})[0]
