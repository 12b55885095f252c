"""Image sets to open: folders, Parquet files, and an S3 server to put them on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synood_ray.data import files
from tests.badimages import encode, picture
from tests.storage.conftest import moto_endpoint, moto_uri  # noqa: F401

MakeFolder = Callable[..., Path]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def _no_old_clients() -> Iterator[None]:
    """Every test may have another S3 server."""
    yield
    files._bucket.cache_clear()
    files._reach.cache_clear()


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Write a folder of class folders of PNG pictures; returns it."""

    def make(classes: Sequence[str] = ("cat", "dog"), per_class: int = 6, name: str = "images", seed: int = 0) -> Path:
        for label, key in enumerate(classes):
            folder = tmp_path / name / key
            folder.mkdir(parents=True)
            for i in range(per_class):
                (folder / f"{i}.png").write_bytes(encode(picture(seed=seed + 100 * label + i, noise=10.0 + 8 * i)))
        return tmp_path / name

    return make


def rows_of(labels: Sequence[Any], **columns: Sequence[Any]) -> list[dict[str, Any]]:
    """One row a label, each with another picture."""
    return [
        {
            "image": {"bytes": encode(picture(seed=i, noise=5.0 + i)), "path": f"{i}.png"},
            "label": label,
            **{name: values[i] for name, values in columns.items()},
        }
        for i, label in enumerate(labels)
    ]


def write_parquet(
    path: Path,
    rows: Sequence[dict[str, Any]],
    label_type: pa.DataType | None = None,
    names: Sequence[str] | None = None,
    row_group_size: int = 4,
) -> Path:
    """Rows as a Parquet file of the Hugging Face layout; ``names``: of the ClassLabel feature."""
    fields = [("image", IMAGE)]
    if rows and "label" in rows[0]:
        fields.append(("label", label_type or pa.int64()))
    if rows and "box" in rows[0]:
        fields.append(("box", pa.list_(pa.int32())))
    table = pa.Table.from_pylist(list(rows), schema=pa.schema(fields))
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def upload(folder: Path, uri: str) -> None:
    """Copy a local folder to an S3 location."""
    import boto3

    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    for path in folder.rglob("*"):
        if path.is_file():
            client.put_object(Bucket=bucket, Key=f"{prefix}/{path.relative_to(folder)}", Body=path.read_bytes())
