"""``synood synthesize --dry-run``: checks all that a run needs, and says what it will make and take. Writes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synood_ray.config.paths import check_output
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError

if TYPE_CHECKING:
    from synood_ray.farm.forecast import Rates
    from synood_ray.storage.reruns import Choice
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores.base import Store

Say = Callable[[str], None]
_SHOWN = 8


@dataclass(frozen=True)
class _Plan:
    """samples: of the whole run; sampled and described: how many samples are there already."""

    samples: int
    sampled: int = 0
    described: int = 0


def dry_run(
    settings: Settings,
    say: Say,
    *,
    probe: int | None = None,
    like: str | None = None,
    price: float | None = None,
    rerun: Choice | None = None,
    **more: Any,
) -> None:
    """Say what `synood synthesize` with these settings will do.

    rerun: say it of these samples, drawn anew.
    probe: make so many samples, elsewhere, to measure rates. like: a run whose rates hold. price: of a GPU-hour.
    more: for the probe's `synood_ray.pipeline.synthesize`.
    Raises UserError for whatever the run would be refused for, as far as that can be found out without it.
    """
    from synood_ray.farm.forecast import forecast

    store, run = _check_storage(settings, say, begun=rerun is not None)
    plan = _new(settings, say) if run is None else _planned(settings, run, rerun, say)
    _check_models(settings, run, say)
    _check_cluster(settings, say)
    rates = _rates(settings, store if run else None, probe, like, say, more)
    if rates is None:
        say("no forecast: --probe K makes K samples elsewhere and measures, --like URI takes the rates of another run")
        return
    left = plan.samples - plan.sampled
    for line in forecast(left, plan.samples - plan.described, settings.farm, rates).lines(price):
        say(line)


def _check_storage(settings: Settings, say: Say, *, begun: bool) -> tuple[Store, Run | None]:
    """The output, and the run in it. begun: there must be one."""
    from synood_ray.farm.actors.describer import keys
    from synood_ray.storage.record import check_settings, check_vacant
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store

    keys(settings)
    check_output(settings.output)
    store = open_store(settings.output)
    run = Run.open(store) if begun else Run.find(store)
    if run is not None:
        check_settings(run.record, settings, settings.output)
    else:
        check_vacant(store)
    store.check_conditions()
    say(f"storage: {store.uri} {'holds this run' if run else 'is free'}, and can be written")
    return store, run


def _planned(settings: Settings, run: Run, rerun: Choice | None, say: Say) -> _Plan:
    return _redrawn(run, rerun, say) if rerun else _resumed(settings, run, say)


def _resumed(settings: Settings, run: Run, say: Say) -> _Plan:
    from synood_ray.storage import layout
    from synood_ray.storage.progress import scan

    record, size = run.record, settings.farm.unit_size
    stages: tuple[layout.Stage, ...] = ("parts", "prompts")
    found = {stage: len(scan(run.store, record.units, stage).committed) for stage in stages}
    done = {stage: min(count * size, record.planned) for stage, count in found.items()}
    left = record.planned - done["parts"]
    say(f"plan: {record.planned:,} samples in {record.units:,} units; {done['parts']:,} are there, {left:,} to make")
    return _Plan(record.planned, done["parts"], max(done.values()))


def _redrawn(run: Run, choice: Choice, say: Say) -> _Plan:
    """The samples of a rerun that are still to be made: of one that has begun, or of a new one."""
    from synood_ray.farm.retry import find_rerun
    from synood_ray.pipeline import rows_to_rerun
    from synood_ray.storage.reruns import find_same, in_words, none_chosen

    if begun := find_same(run.store, choice):
        left = sum(len(again.keys) for again in find_rerun(run.store, begun).values())
        say(f"rerun {begun.number} ({begun.where}): {left:,} of {begun.samples:,} samples are still to be drawn anew")
        return _Plan(left, described=left)
    rows = rows_to_rerun(run, choice)
    told = f"to be drawn anew: {in_words(rows, run.record.planned)}" if len(rows) else none_chosen(run, choice)
    say(told)
    return _Plan(len(rows), described=len(rows))


def _new(settings: Settings, say: Say) -> _Plan:
    """The plan by counts: no image is opened."""
    from synood_ray.data.selection import held_out_of
    from synood_ray.data.source import open_source
    from synood_ray.negatives.mining import load_candidates
    from synood_ray.sampling.proposals import check_proposals
    from synood_ray.sampling.relatives import check_prompts

    data = settings.data
    load_candidates(settings.labels)
    source = open_source(data.uri, data)
    counts = source.census()
    names = [f"{known.name} {count:,}" for known, count in zip(source.classes, counts, strict=True)]
    more = [f"… {len(names)} classes in all"] if len(names) > _SHOWN else []
    say(f"classes (images): {', '.join([*names[:_SHOWN], *more])}")
    if empty := [known.key for known, count in zip(source.classes, counts, strict=True) if not count]:
        raise UserError(f"data.uri: {source.uri} has no image of class {empty[0]!r}; add images or remove it")
    check_prompts(settings.prompts, [known.name for known in source.classes])
    check_proposals(settings)
    if data.calibration is not None:
        open_source(data.calibration, data, classes=source.classes, setting="data.calibration")
    chosen = sum(min(data.per_class, count - held_out_of(count, data)) for count in counts)
    samples = min(chosen * settings.sampling.per_image, settings.limit or 2**62)
    units = -(-samples // settings.farm.unit_size)
    say(
        f"plan: {sum(counts):,} images, {chosen:,} selected, {samples:,} samples in {units:,} units; fewer where "
        "images cannot be decoded or are copies"
    )
    return _Plan(samples)


def _check_models(settings: Settings, run: Run | None, say: Say) -> None:
    """Models by name: folders must be there; what is on the hub is asked for where the hub can be reached."""
    from synood_ray.models.hub import cached, find_commits, hub_models

    models = hub_models(settings)
    commits = run.record.commits if run else find_commits(settings, say)
    for section, commit in commits.items():
        where = "in the cache" if cached(models[section], commit) else "to be fetched"
        say(f"models: {section}.model {models[section]} at commit {commit[:12]}, {where}")
    if not models:
        say("models: all are folders, and here")


def _check_cluster(settings: Settings, say: Say) -> None:
    """The workers' needs against the cluster; a local one is not started for it."""
    from synood_ray.farm.cluster import autoscaling, connect, is_local, nodes, this_machine
    from synood_ray.farm.placement import check_any, in_all, needs_of

    if is_local():
        machines, scaler = [this_machine()], None
    else:
        say(connect())
        machines, scaler = nodes(), autoscaling()
    ways = needs_of(settings)
    if scaler is None:
        check_any(ways, machines)
    fits = "the autoscaler is to find room for" if scaler else "there is room for"
    each = ", ".join(dict.fromkeys(f"a {need.role} ({need})" for need in ways[0]))
    say(f"cluster: {in_all(machines)}; {fits} {each}")


def _rates(
    settings: Settings, store: Store | None, probe: int | None, like: str | None, say: Say, more: dict[str, Any]
) -> Rates | None:
    from synood_ray.farm.cluster import is_local
    from synood_ray.storage.stores import open_store

    if like is not None:
        return _read_rates(open_store(like, write=False), say)
    if probe is None:
        return _read_rates(store, say) if store else None
    if not is_local():
        raise UserError(
            "probe: works on this machine only; on a cluster run it with --limit and another --output, and then --like"
        )
    from synood_ray.pipeline import synthesize

    with tempfile.TemporaryDirectory(prefix="synood-probe-") as folder:
        farm = {"unit_size": max(1, min(settings.farm.unit_size, probe // 4))}
        own = settings.model_copy(update={"output": f"{folder}/run", "limit": probe}, deep=True)
        own.farm = own.farm.model_copy(update=farm)
        say(f"probe: {probe} samples, in a folder that is removed afterwards")
        synthesize(own, say, **more)
        return _read_rates(open_store(own.output, write=False), say)


def _read_rates(store: Store, say: Say) -> Rates | None:
    from synood_ray.farm.forecast import Rates
    from synood_ray.storage import layout
    from synood_ray.storage.progress import sample_parts
    from synood_ray.storage.record import require_record
    from synood_ray.storage.stored_json import load_json

    record, found = require_record(store), load_json(store, layout.RATES)
    if not found:
        say(f"{store.uri} has measured no rates")
        return None
    parts = sample_parts(store)
    made = sum(len(record.unit_samples(unit)) for unit in parts)
    size = sum(entry.size for entries in parts.values() for entry in entries) / max(made, 1)
    each = ", ".join(f"{stage} {seconds:.3g} s" for stage, seconds in found.items())
    say(f"rates of {store.uri}, a sample and worker: {each}, {size / 1000:.3g} KB")
    return Rates(found, size)
