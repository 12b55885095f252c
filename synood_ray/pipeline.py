"""One synthesis run from settings to published shards; resumes whatever part of it exists already."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from synood_ray import __version__
from synood_ray.config.fingerprint import changes
from synood_ray.config.paths import check_models, check_output
from synood_ray.config.settings import Settings
from synood_ray.errors import Unavailable, UserError, counted
from synood_ray.farm.actors.describer import keys
from synood_ray.farm.cluster import check_reachable
from synood_ray.farm.observers import Event, Observer, StageBegan, StageEnded
from synood_ray.farm.plan import Plan
from synood_ray.farm.reports import BOXES, NAMES
from synood_ray.farm.retry import Retry, find_rerun, find_retries
from synood_ray.locations import run_name, without_credentials
from synood_ray.models.hub import at_commits, find_commits
from synood_ray.negatives.mining import load_candidates
from synood_ray.records import SourceImage
from synood_ray.sampling.checks import asks_describer
from synood_ray.sampling.proposals import check_proposals
from synood_ray.sampling.relatives import check_prompts
from synood_ray.storage import layout, reruns
from synood_ray.storage.progress import RunStatus, run_status, scan_stages
from synood_ray.storage.publication import announce_retries
from synood_ray.storage.publish import ROWS_PER_SHARD, Unfinished, is_finished, publish
from synood_ray.storage.record import check_or_create_run, check_settings, check_vacant, withdraw
from synood_ray.storage.run import Run
from synood_ray.storage.shards import read_manifest
from synood_ray.storage.sources import encode_sources, sources_digest
from synood_ray.storage.stored_json import put_json
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store, StoreUnavailable

if TYPE_CHECKING:
    import pyarrow as pa

    from synood_ray.data.selection import Selection
    from synood_ray.farm.actors import Actors
    from synood_ray.farm.budget import Budget
    from synood_ray.farm.driver import Driver

Say = Callable[[str], None]
_STAND_INS = {NAMES: "WordNet's names stood in", BOXES: "the centred box stood in"}
MANIFESTS = (layout.CALIBRATION_MANIFEST, layout.ID_MANIFEST)


@dataclass(frozen=True)
class Synthesis:
    """What a call of `synthesize` did. computed: units this call made; seconds: wall time by stage."""

    status: RunStatus
    computed: int
    seconds: dict[str, float]


def synthesize(
    settings: Settings,
    say: Say = print,
    retry_failed: bool = False,
    *,
    rerun: reruns.Choice | None = None,
    actors: Actors | None = None,
    observers: Sequence[Observer] = (),
    rows_per_shard: int = ROWS_PER_SHARD,
) -> Synthesis:
    """Select, describe, sample and publish into settings.output; whatever is there already is kept.

    retry_failed: run the quarantined units and the failed samples of an existing run again, and nothing else.
    rerun: draw these samples of a published run anew, and nothing else.
    actors: other actor classes than the real ones. observers: are told what happens in the farm (`farm.observers`).
    rows_per_shard: see `publish`.

    Raises UserError for wrong settings, unusable images or an output that belongs to another configuration, before
    any model loads, and for models that cannot be loaded: nothing is left of a run that has just begun.
    KeyboardInterrupt leaves everything committed so far.
    """
    begin = time.perf_counter()
    seconds: dict[str, float] = {}
    keys(settings)  # a malformed one is the user's to fix, before anything is written or loaded
    check_output(settings.output)
    store = open_store(settings.output)
    again = retry_failed or rerun is not None
    run = Run.open(store) if again else Run.find(store)
    if run is not None:
        check_settings(run.record, settings, settings.output)
        for change in changes(run.config, settings):
            say(f"{change}: that goes for the samples still to be made, those that are there stay as they are")
    else:
        check_vacant(store)
    chosen = _choose(run, rerun, say) if rerun and run else None
    retry = _find_retries(store, say) if retry_failed else _left_of(store, chosen, say) if chosen else None
    finished = f"{settings.output} is finished already: nothing to do"
    if not again and is_finished(store):
        say(finished)
        return Synthesis(run_status(store), 0, seconds)
    computed = 0
    if retry or not again:
        plan, run, new = _plan(settings, store, run, say)
        seconds["select"] = time.perf_counter() - begin
        try:
            settings = at_commits(settings, run.record.commits)
            computed, by_stage = _drive(settings, store, plan, run.classes, say, retry, actors, observers)
        except UserError:
            if new:
                with suppress(Unavailable):  # what is wrong with the start matters more
                    withdraw(store)
            raise
        seconds |= by_stage
    _publish(store, rows_per_shard, say, seconds, finished)
    if chosen and retry and (left := find_rerun(store, chosen)):
        say(f"{counted(len(left), 'unit')} of the rerun still to be made; the same command goes on")
    return Synthesis(run_status(store), computed, seconds)


def _publish(store: Store, rows_per_shard: int, say: Say, seconds: dict[str, float], finished: str) -> None:
    """Publish if nothing is left to do, with the time it took among ``seconds``; finished: what to say if it was."""
    begin = time.perf_counter()
    try:
        before, manifest = read_manifest(store), publish(store, rows_per_shard=rows_per_shard, say=say)
    except Unfinished as error:
        say(str(error))
        return
    if manifest == before:
        say(finished)
        return
    say(f"published {counted(len(manifest['shards']), 'shard')}, manifest.json")
    seconds["publish"] = time.perf_counter() - begin
    Run.open(store).record_timings("synthesize", seconds)


def _choose(run: Run, choice: reruns.Choice, say: Say) -> reruns.Rerun | None:
    """The rerun of this choice, which is stored if it was not; None if no row is chosen."""
    if begun := reruns.find_same(run.store, choice):
        return begun
    rows = rows_to_rerun(run, choice)
    if not len(rows):
        say(reruns.none_chosen(run, choice))
        return None
    say(f"drawing anew: {reruns.in_words(rows, run.record.planned)}")
    return reruns.put_rerun(run.store, choice, rows)


def _left_of(store: Store, rerun: reruns.Rerun, say: Say) -> dict[int, Retry]:
    """What is left of a rerun, told in one line."""
    left = find_rerun(store, rerun)
    if left:
        samples = sum(len(again.keys) for again in left.values())
        say(f"rerun {rerun.number} ({rerun.where}): {samples:,} of {rerun.samples:,} samples to make")
    else:
        say(f"rerun {rerun.number} ({rerun.where}) is done; another --rerun-seed chooses and draws once more")
    return left


def rows_to_rerun(run: Run, choice: reruns.Choice) -> pa.Table:
    """The rows that are chosen (`reruns.chosen`). UserError if the run is not published as it is by now."""
    if not is_finished(run.store):
        raise UserError(f"{run.uri}: not finished, or not published; run the same command without --rerun first")
    return reruns.chosen(run, choice)


def _find_retries(store: Store, say: Say) -> dict[int, Retry]:
    retry = find_retries(store, say)
    whole = sum(not again.number for again in retry.values())
    samples = sum(len(again.keys) for again in retry.values())
    if retry:
        units, other = counted(whole, "quarantined unit"), counted(len(retry) - whole, "other unit")
        say(f"running again: {units}, {counted(samples, 'failed sample')} of {other}")
    else:
        say("nothing to retry: no unit is quarantined and no sample has failed")
    return retry


def _plan(settings: Settings, store: Store, run: Run | None, say: Say) -> tuple[Plan, Run, bool]:
    """The plan of this run: from its stored ID manifest, or from a new selection, which is then stored; and whether
    this call has created the run.

    run.json comes first and decides whose run this is; a start that died before the manifests were written is
    repeated, and must select the same images.
    """
    if run is not None and all(map(store.exists, MANIFESTS)):
        return plan_of(settings, run.sources()), run, False
    from synood_ray.data.masks import check_masks

    load_candidates(settings.labels)  # a wrong file is the user's to fix, before anything is written or loaded
    check_reachable()  # and so is a cluster that is not there
    commits = find_commits(settings, say) if run is None else run.record.commits
    selection = _select(settings, say)
    check_prompts(settings.prompts, [info.name for info in selection.classes])
    check_proposals(settings)
    plan = plan_of(settings, selection.sources)
    if settings.sampling.mask == "files":
        planned = {task.source.key: task.source for unit in range(len(plan)) for task in plan.unit(unit)}
        check_masks(settings.sampling.masks or "", planned.values())
    record, new = check_or_create_run(
        store,
        settings,
        id_manifest_sha256=sources_digest(selection.sources),
        planned=plan.samples,
        units=len(plan),
        classes=[info.name for info in selection.classes],
        commits=commits,
    )
    put_json(store, layout.SKIPS, {"skips": [asdict(skip) for skip in selection.skips]})
    store.put_new(layout.CALIBRATION_MANIFEST, encode_sources(selection.calibration))
    store.put_new(layout.ID_MANIFEST, encode_sources(selection.sources))
    return plan, Run(store, record), new


def plan_of(settings: Settings, sources: Sequence[SourceImage]) -> Plan:
    """The plan of the samples that these settings make from these sources."""
    unit_size, per_image = settings.farm.unit_size, settings.sampling.per_image
    return Plan(sources, per_image=per_image, unit_size=unit_size, limit=settings.limit, seed=settings.seed)


def _select(settings: Settings, say: Say) -> Selection:
    from synood_ray.data.selection import select
    from synood_ray.data.source import open_source

    last = time.monotonic()

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= settings.farm.status_every:
            last = time.monotonic()
            say(f"selecting: {stage} {done}/{total}")

    try:
        selection = select(open_source(settings.data.uri, settings.data), settings.data, progress)
    except StoreUnavailable as error:  # nothing has begun yet: more likely a wrong place than a passing trouble
        raise UserError(f"data.uri: {settings.data.uri}: {error}; check AWS_ENDPOINT_URL and the network") from error
    say(
        f"selected {len(selection.sources)} images of {len(selection.classes)} classes, "
        f"{len(selection.calibration)} held out for the boundary, {len(selection.skips)} skipped"
    )
    for line in [*selection.about_classes(), *selection.notes]:
        say(line)
    for skip in selection.skips[:5]:
        say(f"  skipped {skip.key!r}: {skip.reason}")
    if len(selection.skips) > 5:
        say(f"  … all {len(selection.skips)} in {layout.SKIPS}")
    return selection


def _drive(
    settings: Settings,
    store: Store,
    plan: Plan,
    classes: list[str],
    say: Say,
    retry: Mapping[int, Retry] | None,
    actors: Actors | None,
    observers: Sequence[Observer],
) -> tuple[int, dict[str, float]]:
    """Do the units that are left, or those to retry; returns how many were done, and seconds by stage.

    Without any, Ray is not started.
    """
    scans = prompts, parts = scan_stages(store, len(plan))
    committed = len(parts.committed)
    if retry:  # first: whatever ends this call early, the next one then publishes what is new
        announce_retries(
            store, {unit: (again.number, len(again.keys)) for unit, again in retry.items() if again.number}
        )
    elif committed:
        say(f"resuming: {committed} of {len(plan)} units are committed")
    given_up = (prompts.quarantined | parts.quarantined).difference(parts.committed.tolist())
    if not retry and committed + len(given_up) == len(plan):
        return 0, {}
    from synood_ray.farm.actors import REAL
    from synood_ray.farm.budget import BudgetSpentError
    from synood_ray.farm.cluster import await_room, connect, is_local
    from synood_ray.farm.driver import Driver
    from synood_ray.farm.log import log_event
    from synood_ray.farm.metrics import Metrics
    from synood_ray.farm.placement import needs_of
    from synood_ray.farm.progress import Progress

    times = _Times()
    say(connect(about_run(settings)))
    if not is_local():
        check_models(settings)
    describes = asks_describer(settings) or len(prompts.committed) < len(plan)
    await_room(needs_of(settings, describes=describes), say)
    earlier = partial(_outcomes, store) if committed and not retry else None
    budget = _budget(settings, store)
    shown = Progress(settings.farm.status_every, say, earlier=earlier)
    with shown as progress, Metrics(run_name(store.uri)) as metrics:
        told: list[Observer] = [progress, log_event, times, metrics, *observers]
        if budget is not None:
            told.append(budget)
        more: dict[str, Any] = {"actors": actors or REAL, "observers": told, "retry": retry, "scans": scans}
        driver = Driver(settings, store, plan, classes, **more)
        try:
            totals = driver.run()
        except BudgetSpentError as spent:
            totals = driver.totals
            say(f"{spent}; the same command with more, or without, goes on")
    if rates := driver.rates():
        put_json(store, layout.RATES, rates)
    _tell_what_failed(driver, say)
    return totals.units, times.seconds


def about_run(settings: Settings) -> dict[str, str]:
    """A job's metadata for Ray's list of jobs: what is made, where, from what, by which version."""
    told = {"run": run_name(settings.output), "preset": settings.preset, "output": settings.output}
    told |= {"data": settings.data.uri, "version": __version__}
    return {f"synood_{name}": without_credentials(value) for name, value in told.items() if value}


def _tell_what_failed(driver: Driver, say: Say) -> None:
    totals = driver.totals
    if totals.untold:
        say(
            f"of {totals.checked} answers to the semantic check {totals.untold} were neither yes nor no; "
            "their samples passed it"
        )
    for what, (lacking, asked) in totals.proposals.items():
        if lacking:
            say(f"of {asked} {what} that the describer was asked for {lacking} could not be used: {_STAND_INS[what]}")
    if driver.quarantined:
        say(f"quarantined: {counted(driver.quarantined, 'unit')}; errors/ says why, --retry-failed runs them again")
    if driver.failures.vain_retries:
        vain = counted(driver.failures.vain_retries, "unit")
        say(f"tried again in vain, and left as before: {vain}; errors/ says why")


def _budget(settings: Settings, store: Store) -> Budget | None:
    """The budget, if there is one. What is accepted already is counted if it matters."""
    from synood_ray.farm.budget import Budget

    farm = settings.farm
    if farm.budget_accepted is None and farm.budget_gpu_hours is None:
        return None
    return Budget(farm, 0 if farm.budget_accepted is None else run_status(store).accepted)


def _outcomes(store: Store) -> dict[str, int]:
    """What has become of the samples that are committed by now."""
    return run_status(store).samples()


class _Times:
    """An observer that keeps the wall time of each stage; the two overlap, as units are sampled while others wait."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.seconds: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageBegan):
            self.seconds.setdefault("load models", time.monotonic() - self.begin)
        elif isinstance(event, StageEnded):
            self.seconds[event.stage] = event.seconds
