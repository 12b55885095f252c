"""Anything at all."""

from __future__ import annotations

import posixpath
import string
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synood_ray.cli.layers import given as one_setting
from synood_ray.cli.layers import resolve
from synood_ray.cli.tree import leaves
from synood_ray.config.models import DescriberSettings
from synood_ray.config.settings import DataSettings
from synood_ray.data.files import is_hidden, wrong_key
from synood_ray.data.masks import mask_address
from synood_ray.data.names import asked_about, coinciding, complaint, names_in, readable
from synood_ray.data.source import open_source
from synood_ray.errors import UserError, printable
from synood_ray.models.describers.answers import Answer, parse_yes_no
from synood_ray.models.describers.base import clean_answers, questions
from synood_ray.records import SourceImage
from synood_ray.storage.stores import open_store
from tests.badimages import encode, picture
from tests.reports.table import reported

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ODD = st.sampled_from(
    [
        "",
        " ",
        "..",
        "../..",
        "/",
        "\\",
        "a/../../b",
        "(",
        "[",
        "{",
        "{}",
        "*",
        "+",
        "cat, ",
        "(cat",
        "\x00",
        "\n",
        "\x1b[2J",
        "or",
        "a or b",
        "cat/",
        "|",
        "nan",
        "-1",
        "1e999",
        "null",
        "[1]",
        "{'a': 1}",
        "s3://",
        "s3://b",
        "file://x",
        "~",
        "%s",
    ]
)
WORDS = TEXT | ODD | st.lists(ODD | TEXT, min_size=2, max_size=4).map("".join)
PIECES = st.sampled_from(
    [
        "<think>",
        "</think>",
        "```",
        "```json\n",
        "[",
        "]",
        "{",
        "}",
        '"',
        "tree",
        ", ",
        "\n- ",
        ":",
        "yes",
        "no",
        "\x1b[31m",
    ]
)
FEW = settings(max_examples=60, suppress_health_check=list(HealthCheck))


def words(text: str) -> int:
    return len(text.split())


@reported("trial", "any class names", "read, or refused in one line; they never end as a pattern")
@FEW
@given(st.lists(WORDS, min_size=1, max_size=5), WORDS)
def test_class_names(names: list[str], answer: str) -> None:
    why = complaint(names, "somewhere")
    assert why is None or why
    assert len(readable(names)) == len(names) and all(len(group) > 1 for group in coinciding(names))
    for name in names:
        inside = names_in(name)
        assert inside and (len(inside) == 1 or all(part in asked_about(name) for part in inside))
        assert questions("{subject} {0} {", [name])[0].endswith(" {0} {")
        (context,) = clean_answers(DescriberSettings(), [Answer(f"{answer}, {name}, house")], [name], words)
        assert context.text or context.error


@reported("trial", "any answer of a model", "a context without control codes, or a reason, in no time")
@FEW
@given(st.lists(PIECES | TEXT, max_size=40).map("".join), TEXT)
def test_answers(said: str, subject: str) -> None:
    (context,) = clean_answers(DescriberSettings(), [Answer(said)], [subject], words)
    assert bool(context.text) != bool(context.error)
    assert context.text == printable(context.text) and words(context.text) <= DescriberSettings().context_tokens
    assert parse_yes_no(Answer(said)) in (True, False, None)


@reported(
    "trial", "any key of an object or a file", "it leads nowhere outside its folder, or is skipped with the reason"
)
@FEW
@given(st.lists(WORDS, min_size=1, max_size=4).map("/".join))
def test_keys(key: str) -> None:
    if is_hidden(key.split("/")[0]) or wrong_key(key):
        return
    source = SourceImage(key, 0, "cat", f"/data/{key}", 1, 1, 1)
    for address in (posixpath.normpath(f"/data/{key}"), posixpath.normpath(mask_address("/masks", source))):
        assert address.startswith(("/data/", "/masks/"))


@reported("trial", "any name under which something is to be stored", "it is stored in the run, or refused")
@FEW
@given(st.lists(WORDS, min_size=1, max_size=4).map("/".join))
def test_stored_names(key: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        store = open_store(f"{root}/run")
        try:
            store.put_new(key, b"x")
        except (ValueError, OSError):
            assert not any(path.is_file() for path in Path(root).rglob("*"))
            return
        assert [entry.key for entry in store.list()] == [key]
        assert all(path.is_relative_to(f"{root}/run") for path in Path(root).rglob("*"))


IMAGE = encode(picture(20, 20))
COLUMNS: list[tuple[pa.DataType, list[Any]]] = [
    (pa.binary(), [IMAGE, None]),
    (pa.large_binary(), [IMAGE, b"no image"]),
    (pa.binary_view(), [IMAGE, IMAGE]),
    (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), [{"bytes": IMAGE, "path": "x"}, None]),
    (pa.struct([("bytes", pa.string())]), [{"bytes": "text"}, {"bytes": None}]),
    (pa.struct([("path", pa.string())]), [{"path": "x"}, {"path": "y"}]),
    (pa.string(), ["cat", "dog"]),
    (pa.string(), ["", None]),
    (pa.dictionary(pa.int8(), pa.string()), ["cat", "dog"]),
    (pa.int64(), [0, -1]),
    (pa.uint8(), [0, 255]),
    (pa.bool_(), [True, False]),
    (pa.float64(), [0.5, float("nan")]),
    (pa.null(), [None, None]),
    (pa.list_(pa.int64()), [[0], []]),
    (pa.list_(pa.float32()), [[0, 0, 5, 5], [float("inf")] * 4]),
    (pa.list_(pa.string()), [["a"], None]),
    (pa.timestamp("s"), [0, 1]),
    (pa.decimal128(5, 2), [1, 2]),
    (pa.map_(pa.string(), pa.int64()), [[("a", 1)], []]),
]


@reported("trial", "any types of the columns of a Parquet file", "read, or refused in one line")
@FEW
@given(st.lists(st.sampled_from(COLUMNS), min_size=3, max_size=3), st.booleans(), st.sampled_from(["keys", None]))
def test_parquet_schemas(kinds: list[tuple[pa.DataType, list[Any]]], labelled: bool, names: str | None) -> None:
    columns = [pa.array(values, kind) for kind, values in kinds]
    with tempfile.TemporaryDirectory() as root:
        pq.write_table(pa.table(columns, names=["image", "label", "box"]), f"{root}/x.parquet")
        try:
            source = open_source(root, DataSettings(class_names=names), labelled=labelled)
            scan = source.scan()
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert len(scan.images) + len(scan.skips) == 2
            assert all(source.read(image) == IMAGE for image in scan.images)


@reported("trial", "any value of any setting", "taken, or refused in one line that names it")
@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(leaves())), WORDS | st.text(string.printable, max_size=12))
def test_settings(path: str, value: str) -> None:
    if path == "preset":
        return
    try:
        resolve([[one_setting(path, value, "command line", typed=True)]])
    except UserError as error:
        assert path.rpartition(".")[2] in str(error)
        assert len(str(error).splitlines()) <= 1 or "\n" in value or "\x1b" in value
