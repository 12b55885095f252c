"""Every job's command line: settings from a preset, a YAML file and dotted options, help, and exit codes.

Precedence, later first: command line, ``--config`` file, preset, defaults. Imports nothing heavy, so that ``--help``
and a wrong setting answer at once.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from synood_ray.cli.helptext import examples, option, setting_help, show, width
from synood_ray.cli.layers import Layer, load_file, load_preset, overrides, preset_names, resolve
from synood_ray.cli.tree import did_you_mean, leaves, sections
from synood_ray.config.settings import Settings
from synood_ray.errors import Unavailable, UserError
from synood_ray.locations import without_credentials

DONE, WRONG_INPUT, QUARANTINED, UNAVAILABLE, INTERRUPTED = 0, 2, 3, 4, 130
"""Exit codes of every job."""

DEFAULT_PRESET = "mini"
_MODELS = ("describer.model", "inpainter.model", "scorer.model")
_ALIASES = {"data": "data.uri", "output": "output", "limit": "limit"}


@dataclass(frozen=True)
class Loaded:
    """Settings, where each value that is not a default came from, and the job's own options."""

    settings: Settings
    origins: dict[str, str]
    extra: dict[str, str]


@dataclass(frozen=True)
class RunArguments:
    """The command line of a job on an existing run."""

    run: str
    json: bool
    layer: Layer

    def settings(self, stored: Settings | Mapping[str, Any]) -> Settings:
        """The run's stored settings with this command line's overrides."""
        base = stored if isinstance(stored, Settings) else settings_from_dict(stored)
        values = {path: _get(base, path) for path in leaves()}
        return resolve([self.layer], values)[0]


def load_settings(
    argv: Sequence[str], *, program: str, description: str, require_data: bool = True, require_output: bool = True
) -> Settings:
    """The settings of a synthesis command; see `load_arguments`."""
    return load_arguments(
        argv, program=program, description=description, require_data=require_data, require_output=require_output
    ).settings


def load_arguments(
    argv: Sequence[str],
    *,
    program: str,
    description: str,
    require_data: bool = True,
    require_output: bool = True,
    extra: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Loaded:
    """Settings from ``--preset --config --data --output --limit`` and dotted options for every field.

    Without a preset named anywhere it is `DEFAULT_PRESET`, unless the file or the command line names a model: then
    the defaults are the start. extra, flags: the job's own options with and without a value, name -> help.
    Prints the help and exits with 0 on ``--help``. Raises UserError in one line for whatever is wrong.
    """
    extra, flags = extra or {}, flags or {}
    own, dotted = _split(argv, ("preset", "config", *_ALIASES, *extra), leaves(), flags=tuple(flags))
    if own.get("help") is not None:
        _print_help(
            _settings_help(program, description, own.get("preset", DEFAULT_PRESET), {**extra, **flags}, require_output)
        )
    dotted += [(_ALIASES[name], text) for name, text in own.items() if name in _ALIASES]
    command = overrides(dotted)
    layers = [command]
    preset = command.values.pop("preset", None) or own.get("preset")
    if "config" in own:
        file, file_preset = load_file(Path(own["config"]).expanduser(), own["config"])
        layers.insert(0, file)
        preset = preset or file_preset
    if preset is None and not any(model in layer.values for layer in layers for model in _MODELS):
        preset = DEFAULT_PRESET
    if preset:
        layers.insert(0, load_preset(preset))
    settings, origins = resolve(layers)
    settings.preset = preset or ""
    if require_data and not settings.data.uri:
        raise UserError("data.uri: no images named; give --data with a folder of class folders or a Parquet file")
    if require_output and not settings.output:
        raise UserError("output: no run folder named; give --output with a folder or an s3:// location")
    return Loaded(settings, origins, {name: own[name] for name in (*extra, *flags) if name in own})


def load_run_arguments(
    argv: Sequence[str], *, program: str, description: str, overrides_of: Sequence[str] = (), json: bool = False
) -> RunArguments:
    """The command line of a job on an existing run: ``--run URI``, ``--json`` if the job has it, and dotted options.

    overrides_of: the sections and settings that may be overridden, such as ("training", "scorer.device").
    """
    flags = ("json",) if json else ()
    known = [path for path in leaves() if any(path == name or path.startswith(f"{name}.") for name in overrides_of)]
    own, dotted = _split(argv, ("run",), known or (), flags=flags)
    if own.get("help") is not None:
        _print_help(_run_help(program, description, overrides_of, json))
    layer = overrides(dotted, allowed=overrides_of)
    if not own.get("run"):
        raise UserError("run: no run named; give --run with the folder or s3:// location that was --output")
    return RunArguments(own["run"], "json" in own, layer)


def short_form(settings: Settings, origins: Mapping[str, str] | None = None) -> str:
    """What differs from the defaults, grouped by where it came from (files by name, without the lines)."""
    groups: dict[str, list[str]] = {}
    for path, leaf in leaves().items():
        value = _get(settings, path)
        if value == leaf.default or path == "preset":
            continue
        origin = (origins or {}).get(path, "settings").partition(", line ")[0]
        groups.setdefault(origin, []).append(f"{path} {without_credentials(show(value))}")
    lines = [f"{origin}: {' · '.join(values)}" for origin, values in groups.items()]
    wrap = textwrap.TextWrapper(width(), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrap.fill(line) for line in lines) or "all settings at their defaults"


def settings_to_dict(settings: Settings) -> dict[str, Any]:
    """The settings as plain JSON values, for storing."""
    return settings.model_dump(mode="json")


def settings_from_dict(stored: Mapping[str, Any]) -> Settings:
    """Stored settings again. Raises UserError if this version does not know them."""
    try:
        return Settings.model_validate(stored)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(f"the run's stored settings do not fit this version: {name}: {first['msg']}") from error


def main_guard(main: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Run a job's ``main(arguments)`` and return its exit code.

    A `UserError` becomes one line and 2. Ctrl-C and SIGTERM (a spot machine that is taken away, a stopped Ray job)
    become one line and 130; a store or a server that stays away, one line and 4. Other errors are defects and keep
    their traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return main(arguments) or DONE
    except UserError as error:
        cause = getattr(error, "cause", None)  # Ray wraps what a worker raised, traceback and all
        message = str(cause if isinstance(cause, UserError) else error)
        print("error: " + without_credentials(" ".join(message.splitlines())), file=sys.stderr)
        return WRONG_INPUT
    except Unavailable as error:
        print("error: " + without_credentials(" ".join(str(error).splitlines())), file=sys.stderr)
        print(_go_on("nothing that was committed is lost", arguments), file=sys.stderr)
        return UNAVAILABLE
    except KeyboardInterrupt:
        return _say_interrupted(arguments)
    except BrokenPipeError:  # `… --help | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except SystemExit as error:
        if error.code == signal.SIGTERM:  # how Ray's own handler leaves
            return _say_interrupted(arguments)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(signum: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _say_interrupted(arguments: Sequence[str]) -> int:
    print(_go_on("\ninterrupted; nothing that was committed is lost", arguments), file=sys.stderr)
    return INTERRUPTED


def _go_on(said: str, arguments: Sequence[str]) -> str:
    return f"{said}, the same command goes on: {without_credentials(shlex.join([sys.argv[0], *arguments]))}"


def _split(
    argv: Sequence[str], own: Sequence[str], known: Iterable[str], flags: Sequence[str] = ()
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The job's own options by name, and the dotted ones in order. ``known``: dotted names, for suggestions."""
    options: dict[str, str] = {}
    dotted: list[tuple[str, str]] = []
    words = iter(argv)
    for word in words:
        if word in ("-h", "--help"):
            options["help"] = ""
            continue
        if not word.startswith("--") or word == "--":
            raise UserError(f"{word!r}: what is this? Settings are given as --name value")
        name, equals, text = word[2:].partition("=")
        if name in flags:
            if equals:
                raise UserError(f"--{name}: takes no value")
            options[name] = ""
            continue
        if name not in own and "." not in name and name not in leaves() and name not in sections():
            names = [f"--{option}" for option in (*own, *flags, *known)]
            raise UserError(f"--{name}: no such option{did_you_mean(f'--{name}', names)}")
        if not equals:
            text = _next(words, name)
        if name in own:
            options[name] = text
        else:
            dotted.append((name, text))
    return options, dotted


def _next(words: Iterator[str], name: str) -> str:
    text = next(words, None)
    if text is None or text.startswith("--"):
        raise UserError(f"--{name}: needs a value (one that starts with -- is given as --{name}=VALUE)")
    return text


def _get(settings: Settings, path: str) -> Any:
    value: Any = settings
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _print_help(text: str) -> NoReturn:
    print(text)
    sys.exit(DONE)


def _settings_help(program: str, description: str, preset: str, extra: Mapping[str, str], makes_run: bool) -> str:
    """makes_run: whether the command writes a run folder; one that measures does not."""
    script = f"python {program}"
    own = [option(f"--{name}", text) for name, text in extra.items()]
    names = ", ".join(preset_names())
    start = [
        option("--preset NAME", f"start from a bundled preset: {names} (default: {DEFAULT_PRESET}, unless --config "
               "or an option names a model; then from the defaults)"),
        option("--config FILE", "YAML file with settings, over the preset's"),
    ]  # fmt: skip
    run = [
        option("--data URI", "ID images: folder of class folders, Parquet file or folder, local or s3:// "
               "(data.uri). The preset's calibration and test sets do not apply then"),
        option("--output URI", "run folder, local or s3://; the same command again goes on where it stopped"),
        option("--limit N", "plan only the first N samples"),
    ]  # fmt: skip
    if makes_run:
        usage = [
            f"usage: {script} [--preset NAME] [--config FILE] [--data URI]",
            "           --output URI [--limit N] [--SETTING VALUE]…",
        ]
        options = [*start, *run, *own]
        shown = [
            f"{script} --preset mini --output runs/first",
            f"{script} --data photos --output runs/photos --limit 100 --sampling.rounds 4",
            f"{script} --preset imagenet --config site.yaml --output s3://runs/first",
        ]
    else:
        usage = [f"usage: {script} [--OPTION VALUE]… [--preset NAME] [--config FILE] [--SETTING VALUE]…"]
        options = [*own, *start]
        shown = [f"{script}", f"{script} --json figures.json --sampling.rounds 4"]
    about = textwrap.fill(
        "Every setting below is an option, as --sampling.rounds 6 or --sampling.rounds=6; lists and tables "
        "are YAML, one entry of a table is --evaluation.near.NAME URI, nothing is null. The command line "
        "goes over the file, the file over the preset. Settings with a * may change when a run goes on.",
        width(),
    )
    settings = setting_help((), preset, load_preset(preset).values)
    head = [textwrap.fill(description, width()), "", *usage, ""]
    return "\n".join([*head, *options, "", about, "", settings, examples(shown)])


def _run_help(program: str, description: str, overrides_of: Sequence[str], json: bool) -> str:
    script = f"python {program}"
    dotted = " [--SETTING VALUE]…" if overrides_of else ""
    lines = [
        textwrap.fill(description, width()),
        "",
        f"usage: {script} --run URI{' [--json]' if json else ''}{dotted}",
        "",
        option("--run URI", "the run: the folder or s3:// location that was --output"),
    ]
    if json:
        lines.append(option("--json", "print one JSON object instead of a table"))
    shown = [f"{script} --run runs/demo", f"{script} --run s3://runs/imagenet"]
    if overrides_of:
        first = next(path for path in leaves() if path == overrides_of[0] or path.startswith(f"{overrides_of[0]}."))
        shown.append(f"{script} --run runs/demo --{first} {show(leaves()[first].default)}")
        lines += ["", "The run's own settings apply; these can be set anew:", "", setting_help(overrides_of).rstrip()]
    elif json:
        shown.append(f"{script} --run runs/demo --json")
    return "\n".join([*lines, "", examples(shown)])
