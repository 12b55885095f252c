"""A farm for benchmarks: no multimodal model but contexts stored beside the images, and a sampler a core."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.local_cluster import LOGICAL_CPUS, local_cluster
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError

if TYPE_CHECKING:
    from synood_ray.data.selection import Selection

POOL = {"min": 1, "max": 1, "cpus": 0.2}


@contextmanager
def small_farm(settings: Settings, unit_size: int, cores: int | None) -> Iterator[tuple[Settings, Selection, Path]]:
    """A Ray of its own, settings for it, the selected images, and a folder for runs; all gone at the end.

    cores: samplers; None: one for each core that this process may use. Needs contexts for the images:
    `describer.contexts`, or a `context` column beside them as in the mini world's; raises UserError without.
    """
    from synood_ray.data.selection import select
    from synood_ray.data.source import open_source

    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    selection = select(open_source(settings.data.uri, settings.data), settings.data)
    with tempfile.TemporaryDirectory() as folder:
        contexts = settings.describer.contexts or write_contexts(settings.data.uri, selection, Path(folder))
        with local_cluster(max(LOGICAL_CPUS, cores)):
            yield farm_settings(settings, contexts, unit_size, cores), selection, Path(folder)


def farm_settings(settings: Settings, contexts: str, unit_size: int, cores: int) -> Settings:
    """A sampler for every core, and nothing of the farm that needs a multimodal model."""
    changed = settings.model_copy(deep=True)
    changed.describer.contexts = contexts
    changed.sampling.mllm_check = False  # stored contexts know nothing about new images
    samplers = POOL | {"min": cores, "max": cores}
    farm = {"unit_size": unit_size, "describers": POOL, "samplers": samplers, "scorers": POOL}
    changed.farm = type(changed.farm).model_validate({**changed.farm.model_dump(), **farm})
    return changed


def write_contexts(uri: str, selection: Selection, folder: Path) -> str:
    """The `context` column of a Parquet file as the JSONL that stored contexts are read from. Raises UserError."""
    import pyarrow.parquet as pq

    from synood_ray.locations import resolve

    path = resolve(uri)
    if not Path(path).is_file() or not path.endswith(".parquet") or "context" not in pq.read_schema(path).names:
        raise UserError(
            "describer.contexts: this benchmark needs stored contexts of the images, as JSONL or prompts folder"
        )
    words = pq.read_table(path, columns=["context"])["context"].to_pylist()
    rows = {source.key: int(source.key.rpartition("#")[2]) for source in selection.sources}
    target = folder / "contexts.jsonl"
    target.write_text("".join(json.dumps({key: ", ".join(words[row])}) + "\n" for key, row in rows.items()))
    return str(target)
