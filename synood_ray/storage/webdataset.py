"""Export of a published run to WebDataset tar shards, the format that open_clip trains from."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from synood_ray.storage.parts import picture
from synood_ray.storage.run import Run
from synood_ray.storage.stores.base import Put, Store

_ABOUT = ("key", "source_key", "source_name", "prompt", "negative_label", "margin", "seed")
_NEEDED = (*_ABOUT, "image", "source_label", "accepted")


def export(run: Run, destination: Store) -> list[str]:
    """Write one tar a shard with the accepted samples: ``<key>.png``, ``.txt`` (caption), ``.cls`` and ``.json``.

    The caption is the sample's negative label, or its prompt where it has none; cls is the source's class. Equal runs
    give equal tars; an interrupted export resumes where it was. Returns the keys of the tars. Raises UserError if
    the run is not published or a shard is not the one that was, FileExistsError if the destination holds another
    export.
    """
    keys = []
    for index, table in enumerate(run.rows(_NEEDED)):
        rows = [row for row in table.to_pylist() if row["accepted"]]
        key = f"synood-{index:05d}.tar"
        if destination.put_new(key, _tar(rows)) is Put.DIFFERENT:
            raise FileExistsError(f"{destination.uri}/{key}: belongs to another export")
        keys.append(key)
    return keys


def _tar(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            about = {name: row[name] for name in _ABOUT}
            files = {
                "png": picture(row["image"]) or b"",
                "txt": (row["negative_label"] or row["prompt"]).encode(),
                "cls": str(row["source_label"]).encode(),
                "json": json.dumps(about, sort_keys=True, ensure_ascii=False).encode(),
            }
            for suffix, data in files.items():
                member = tarfile.TarInfo(f"{row['key']}.{suffix}")  # time and owner stay 0: equal runs, equal bytes
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
