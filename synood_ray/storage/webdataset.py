"""Export of a published run to WebDataset tar shards, the format that open_clip trains from."""

from __future__ import annotations

import io
import json
import tarfile

from synood_ray.records import SampleRow
from synood_ray.storage.parts import decode_samples
from synood_ray.storage.publish import Unfinished
from synood_ray.storage.shards import read_manifest, read_shard
from synood_ray.storage.stores.base import Put, Store


def export(store: Store, destination: Store) -> list[str]:
    """Write one tar a shard with the accepted samples: ``<key>.png``, ``.txt`` (caption), ``.cls`` and ``.json``.

    The caption is the sample's negative label, or its prompt where it has none; cls is the source's class. Equal runs
    give equal tars; an interrupted export goes on where it was. Returns the keys of the tars. Raises Unfinished if
    the run is not published, UserError if a shard is not the one that was, FileExistsError if the destination holds
    another export.
    """
    manifest = read_manifest(store)
    if manifest is None:
        raise Unfinished(f"{store.uri}: not published yet")
    keys = []
    for index, shard in enumerate(manifest["shards"]):
        rows = [row for row in decode_samples(read_shard(store, shard)) if row.accepted]
        key = f"synood-{index:05d}.tar"
        if destination.put_new(key, _tar(rows)) is Put.DIFFERENT:
            raise FileExistsError(f"{destination.uri}/{key}: belongs to another export")
        keys.append(key)
    return keys


def _tar(rows: list[SampleRow]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            about = {
                "key": row.key,
                "source_key": row.source_key,
                "source_name": row.source_name,
                "prompt": row.prompt,
                "negative_label": row.negative_label,
                "margin": row.margin,
                "seed": row.seed,
            }
            files = {
                "png": row.image or b"",
                "txt": (row.negative_label or row.prompt).encode(),
                "cls": str(row.source_label).encode(),
                "json": json.dumps(about, sort_keys=True, ensure_ascii=False).encode(),
            }
            for suffix, data in files.items():
                member = tarfile.TarInfo(f"{row.key}.{suffix}")  # time and owner stay 0: equal runs, equal bytes
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
