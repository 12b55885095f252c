"""synood synthesize: select, describe, sample, publish."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from synood_ray.cli.command import ALL, START, Arguments, Command
from synood_ray.cli.guard import (
    DONE,
    NOTHING_ACCEPTED,
    QUARANTINED,
    UNFINISHED,
    ends_with,
    exit_code,
)
from synood_ray.cli.help import show, width
from synood_ray.cli.tree import leaves, value_of
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError, counted, first_line, printable
from synood_ray.locations import without_credentials

if TYPE_CHECKING:
    from synood_ray.pipeline import Synthesis
    from synood_ray.storage.reruns import Choice

ASSUMED = (
    "no --preset: using the bundled small models, which know drawings only; for photos give --preset imagenet "
    "(it needs a GPU), or name models with --describer.model, --inpainter.model and --scorer.model"
)

REJECTED = {
    "rounds": "never came near the boundary (sampling.rounds, sampling.max_step, inpainter.model)",
    "clip": "still show their class, or their partner's, to CLIP (prompts.policy, sampling.strength, sampling.mask)",
    "empty": "show nothing where a thing was painted (sampling.structure)",
    "mllm": "still show their class to the describer (sampling.strength, describer.contexts)",
    "duplicate": "are nearly the same as another of their class (sampling.distinct, sampling.per_image)",
}
"""Reasons of rejected samples in words, with the settings that matter."""
_REASONS = 3  # told at most
_FEW = 0.25  # of a run's samples: with fewer accepted, the reasons are told


def run(arguments: Arguments, **more: Any) -> int:
    """more: for `synood_ray.pipeline.synthesize`, such as observers."""
    settings = arguments.settings
    first = [short_form(arguments)]  # with the first line of the run: wrong input is to be told before anything else
    if arguments.assumed and "data.uri" in arguments.origins and "preset" not in arguments.origins["data.uri"]:
        first.append(ASSUMED)

    def say(line: str) -> None:
        print("\n".join([*first, printable(line)]), flush=True)
        first.clear()

    _check_options(arguments.options)
    if "dry-run" in arguments.options:
        from synood_ray.cli.dry_run import dry_run

        dry_run(settings, say, rerun=_rerun(arguments.options), **_rehearsal(arguments.options), **more)
        return DONE
    from synood_ray.pipeline import synthesize

    retry, rerun = "retry-failed" in arguments.options, _rerun(arguments.options)
    try:
        result = synthesize(settings, say=say, retry_failed=retry, rerun=rerun, **more)
    except BaseException as error:
        _tell_end(settings, say, {"exit_code": exit_code(error), "error": without_credentials(first_line(error))})
        raise
    code = ends_with(_summary(settings, result))
    _tell_end(settings, say, {"exit_code": code, **result.status.asdict()})
    return code


def _tell_end(settings: Settings, say: Callable[[str], None], ended: dict[str, Any]) -> None:
    """Tell whoever wants to be told."""
    from synood_ray.cli.finish import tell

    if settings.farm.on_finish:
        tell(settings.farm.on_finish, {"run": without_credentials(settings.output), **ended}, say)


def _summary(settings: Settings, result: Synthesis) -> int:
    """Print what came of it; returns the exit code."""
    status = result.status
    print(
        f"{status.accepted + status.rejected + status.failed} samples: {status.accepted} accepted, "
        f"{status.rejected} rejected, {status.failed} failed; {counted(result.computed, 'unit')} computed now"
    )
    if status.diversity:
        print(status.diversity)
    nothing = status.published and not status.accepted
    made = status.accepted + status.rejected + status.failed
    if nothing:
        print(f"no sample was accepted: {why_not(settings.output)}")
    elif status.published and result.computed and status.accepted < _FEW * made:
        print(f"few samples were accepted: {why_not(settings.output)}")
    if not status.published:
        return UNFINISHED
    if status.quarantined > settings.farm.max_quarantined:
        return QUARANTINED
    return NOTHING_ACCEPTED if nothing else DONE


def why_not(output: str) -> str:
    """Why samples of a published run were not accepted, the most frequent reasons first."""
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store

    outcomes = Run.open(open_store(output)).outcomes()
    del outcomes[""]
    found = outcomes.most_common(_REASONS)
    return "; ".join(f"{count} {REJECTED.get(reason, printable(reason))}" for reason, count in found) or "none was made"


def _rerun(options: dict[str, str]) -> Choice | None:
    """The samples to draw anew, if that is asked for. Raises UserError."""
    if "rerun" not in options:
        if "rerun-seed" in options:
            raise UserError("--rerun-seed: goes with --rerun, which says what is drawn anew")
        return None
    if "retry-failed" in options:
        raise UserError("--rerun: not together with --retry-failed; --rerun failed draws failed samples anew")
    from synood_ray.storage.reruns import Choice
    from synood_ray.storage.where import parse_where

    seed = options.get("rerun-seed", "1")
    if not re.fullmatch(r"0*[1-9]\d{0,8}", seed):
        raise UserError(f"--rerun-seed: must be a whole number from 1, not {seed!r}")
    return Choice(parse_where(options["rerun"], "--rerun"), int(seed))


def _check_options(options: Collection[str]) -> None:
    """Raise UserError for options that do nothing together: a run is not to begin where only its plan was asked for."""
    if "dry-run" not in options and (
        alone := next((name for name in ("probe", "like", "price") if name in options), "")
    ):
        raise UserError(f"--{alone}: goes with --dry-run, which makes no run")
    if "dry-run" in options and "retry-failed" in options and "rerun" not in options:
        raise UserError("--dry-run: not together with --retry-failed; synood status says what failed")


def _rehearsal(options: dict[str, str]) -> dict[str, Any]:
    """The options of a dry run. Raises UserError."""
    found: dict[str, Any] = {"like": options.get("like")}
    for name, kind in (("probe", int), ("price", float)):
        if name in options:
            try:
                found[name] = kind(options[name])
            except ValueError:
                found[name] = 0
            if not 0 < found[name] < float("inf"):
                raise UserError(f"{name}: must be a number above 0, not {options[name]!r}")
    return found


def short_form(arguments: Arguments) -> str:
    """What differs from the defaults, grouped by where it came from (files by name, without the lines)."""
    groups: dict[str, list[str]] = {}
    for path, leaf in leaves().items():
        value = value_of(arguments.settings, path)
        if value != leaf.default and path != "preset":
            origin = arguments.origins[path].partition(", line ")[0]
            shown = "(set)" if leaf.secret else without_credentials(show(value))
            groups.setdefault(origin, []).append(f"{path} {shown}")
    lines = [f"{origin}: {' · '.join(values)}" for origin, values in groups.items()]
    wrap = textwrap.TextWrapper(width(), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrap.fill(line) for line in lines) or "all settings at their defaults"


COMMAND = Command(
    "synthesize",
    "Make near-boundary out-of-distribution images of an image set: select, describe, sample, publish.",
    run,
    options={
        "--data URI": "ID images: folder of class folders, Parquet file or folder, local or s3:// (data.uri). The "
        "preset's calibration and test sets do not apply then",
        "--output URI": "run folder, local or s3://; the same command again resumes where it stopped",
        **START,
        "--limit N": "plan only the first N samples",
        "--dry-run": "check everything, say what the run will make and take, write nothing",
        "--probe K": "with --dry-run: make K samples elsewhere to measure",
        "--like URI": "with --dry-run: a run whose measured rates hold",
        "--price P": "with --dry-run: price of a GPU-hour",
        "--retry-failed": "run quarantined units and failed samples again, and nothing else; a published run is "
        "published anew",
        "--rerun WHERE": "draw samples of a published run anew, with new seeds: "
        "\"reason = 'rounds' and class in ('owl', 'duck')\"",
        "--rerun-seed N": "with --rerun: not 1, to draw once more",
    },
    needs=("data", "output"),
    settings=ALL,
    often=(
        "data.per_class",
        "sampling.per_image",
        "sampling.rounds",
        "sampling.band",
        "sampling.strength",
        "describer.model",
        "inpainter.model",
        "scorer.model",
        "farm.samplers.max",
        "seed",
    ),
    examples=(
        "--preset mini --output runs/first",
        "--data photos --output runs/photos --limit 100 --sampling.rounds 4",
        "--preset imagenet --config site.yaml --output s3://runs/first",
    ),
)
