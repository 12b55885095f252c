"""A run, as its folder tells it: one place that knows under which key everything lies and what to say if it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from synood_ray.errors import UserError
from synood_ray.records import SampleRow
from synood_ray.storage import layout
from synood_ray.storage.parts import SAMPLE_COLUMNS, decode_samples, read_columns
from synood_ray.storage.progress import RunStatus, run_status
from synood_ray.storage.publication import Publication, read_publications
from synood_ray.storage.record import RunRecord, read_record, require_record
from synood_ray.storage.shards import check_shards, manifest_digest, read_manifest, read_shard
from synood_ray.storage.sources import SourceTable, read_held_out, read_sources
from synood_ray.storage.stored_json import load_json, put_json
from synood_ray.storage.stores.base import Store

JOBS = ("synthesize", "finetune", "evaluate")
"""What is timed, in the order of a run."""

_BEFORE: dict[str, dict[str, Any]] = {
    "detector": {"score": "neglabel"},
    "evaluation": {"prompts": "run"},
    "training": {"offset": False},
}
"""Sections of settings that runs of earlier versions lack, as these versions had them."""


@dataclass(frozen=True)
class Run:
    """A run that exists. Only its record is held; everything else is read when it is asked for, and may have changed.

    Methods raise UserError, with one line for the user, where an object is damaged or none of ours.
    """

    store: Store
    record: RunRecord

    @classmethod
    def find(cls, store: Store) -> Run | None:
        """The run in this store, or None if there is none yet."""
        record = read_record(store)
        return None if record is None else cls(store, record)

    @classmethod
    def open(cls, store: Store) -> Run:
        """The run in this store. UserError if there is none."""
        return cls(store, require_record(store))

    @property
    def uri(self) -> str:
        """Where it lies."""
        return self.store.uri

    @property
    def config(self) -> dict[str, Any]:
        """The settings that it was made with, and is to be gone on with: models of the hub at their commits."""
        config = self.record.config
        found = config | {section: before | config.get(section, {}) for section, before in _BEFORE.items()}
        commits = {section: {**found[section], "revision": commit} for section, commit in self.record.commits.items()}
        return found | commits

    @property
    def classes(self) -> list[str]:
        """Name of every label."""
        return self.record.classes

    # What it is made from

    def sources(self) -> SourceTable:
        """The ID images that samples are made from."""
        return read_sources(self.store)

    def held_out(self) -> SourceTable:
        """The ID images that boundary and thresholds are set on."""
        return read_held_out(self.store)

    def skips(self) -> list[dict[str, str]]:
        """Input images that could not be used: key and reason of each."""
        return (load_json(self.store, layout.SKIPS) or {"skips": []})["skips"]  # type: ignore[no-any-return]

    def calibration(self) -> dict[str, Any] | None:
        """The boundary as it was measured; None before that."""
        return load_json(self.store, layout.CALIBRATION)

    @property
    def has_negatives(self) -> bool:
        """Whether its negative labels are mined."""
        return self.store.exists(layout.NEGATIVES)

    # How far it is

    def status(self) -> RunStatus:
        """Units and samples by state."""
        return run_status(self.store)

    def errors(self) -> Iterator[dict[str, Any]]:
        """The records of failed attempts, in the order of their names."""
        for entry in self.store.list(layout.ERRORS):
            if layout.parse_error(entry.key):
                yield load_json(self.store, entry.key) or {}

    def timings(self) -> dict[str, float]:
        """Wall seconds by stage of all jobs, in the order of their stages."""
        found: dict[str, float] = {}
        for job in JOBS:
            for entry in load_json(self.store, f"{layout.TIMINGS}{job}.json") or []:
                found[entry["stage"]] = entry["seconds"]
        return found

    def record_timings(self, job: str, seconds: Mapping[str, float]) -> None:
        """Keep the wall seconds by stage of the call that finished a job; a later call does not change them.

        They are for the summary, beside the run, and never part of its results.
        """
        stages = [{"stage": stage, "seconds": round(value, 2)} for stage, value in seconds.items()]
        put_json(self.store, f"{layout.TIMINGS}{job}.json", stages)

    # What it has published

    def manifest(self) -> dict[str, Any] | None:
        """The manifest; None before the run is published."""
        return read_manifest(self.store)

    def published(self) -> dict[str, Any]:
        """The manifest. UserError if the run is not published yet."""
        manifest = self.manifest()
        if manifest is None:
            raise UserError(
                f"{self.uri}: the run is not finished; finish it with synood synthesize --output {self.uri}"
            )
        return manifest

    def publications(self) -> list[Publication]:
        """What was decided to be published, in order; the last one counts."""
        return read_publications(self.store)

    def digest(self) -> str | None:
        """Which samples are published, as a digest; None if none are."""
        return manifest_digest(self.store)

    def check_shards(self) -> None:
        """Raise UserError if a shard is gone or has another size, before anything that takes long begins."""
        check_shards(self.store, self.published())

    def table(self, shard: Mapping[str, Any], columns: Sequence[str] = SAMPLE_COLUMNS) -> pa.Table:
        """Columns of a shard, which an entry of the manifest names, once it is known to be the one that was published.

        Columns that are not asked for are not decoded. Raises UserError if it is gone or has other bytes.
        """
        return read_columns(read_shard(self.store, shard), columns)

    def rows(self, columns: Sequence[str] = SAMPLE_COLUMNS) -> Iterator[pa.Table]:
        """Columns of all samples in order: a table per shard, one in memory at a time. See `published` and `table`."""
        for shard in self.published()["shards"]:
            yield self.table(shard, columns)

    def samples(self) -> Iterator[SampleRow]:
        """All samples in order as objects, one shard in memory at a time. See `published` and `table`."""
        for shard in self.published()["shards"]:
            yield from decode_samples(read_shard(self.store, shard))

    def outcomes(self) -> Counter[str]:
        """What became of all samples: "" (accepted), or the reason that a row gives. See `published` and `table`."""
        return Counter(
            reason for table in self.rows(["reject_reason"]) for reason in table["reject_reason"].to_pylist()
        )

    # What was measured on it

    def evaluation(self) -> dict[str, Any] | None:
        """The contents of evaluation.json; None before it is evaluated."""
        return load_json(self.store, layout.EVALUATION)

    def put_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Store an evaluation in place of an older one, and remove the report about that.

        It is derived from the run, and so may be replaced.
        """
        for page in (layout.REPORT_PAGE, layout.REPORT_TEXT, layout.REPORT_BOARD):
            self.store.delete(page)  # first: pages about other figures never outlive them
        self.store.delete(layout.EVALUATION)
        put_json(self.store, layout.EVALUATION, dict(evaluation))
