"""Contexts that somebody recorded before: the paper's released JSONL, or the prompts of another run."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from PIL import Image

from synood_ray.config.models import DescriberSettings
from synood_ray.data import files
from synood_ray.errors import UserError
from synood_ray.models.describers.answers import Answer
from synood_ray.models.describers.base import Context, clean_answers
from synood_ray.models.describers.contexts import TokenCounter


class RecordedDescriber:
    """Looks up `settings.contexts`: a JSONL file, a Parquet file, or a folder of Parquet files (`prompts/`).

    JSONL: one object a line, {"path/of/image.jpg": "text"}. Parquet: columns `context` and `source_key` or `key`.
    A key is found by itself, else by its last two parts or its file name where these are unique, because recorded
    paths begin at another machine's root. Raises UserError for an unreadable file and for a key without context.
    """

    def __init__(self, settings: DescriberSettings, count_tokens: TokenCounter) -> None:
        assert settings.contexts is not None
        self.settings, self._count_tokens = settings, count_tokens
        self._address = files.absolute(settings.contexts)
        self._texts = read_contexts(self._address)
        self._tails: dict[str, str | None] = {}  # None: more than one key ends like this
        for key in self._texts:
            for tail in _tails(key):
                self._tails[tail] = None if tail in self._tails else key

    def describe(
        self, images: Sequence[Image.Image], subjects: Sequence[str], keys: Sequence[str] | None = None
    ) -> list[Context]:
        """See `Describer.describe`; the images are not looked at."""
        if keys is None:
            raise ValueError("recorded contexts are looked up by key: describe() needs the images' keys")
        answers = [Answer(self.lookup(key)) for key in keys]
        return clean_answers(self.settings, answers, subjects, self._count_tokens)

    def lookup(self, key: str) -> str:
        """The recorded text of an image; UserError if there is none."""
        if key in self._texts:
            return self._texts[key]
        for tail in _tails(key):
            found = self._tails.get(tail)
            if found is not None:
                return self._texts[found]
        raise UserError(f"describer.contexts: {self._address} has no context for {key!r}")

    def shows(self, images: Sequence[Image.Image], subjects: Sequence[str]) -> list[bool | None]:
        """Always unknown: nothing was recorded about images that did not exist."""
        return [None] * len(images)

    def answer(self, images: Sequence[Image.Image], asked: Sequence[str]) -> list[Answer]:
        """Nothing: only contexts were recorded."""
        return [Answer("", "nothing is recorded but contexts")] * len(images)

    def close(self) -> None:
        """Forget the texts."""
        self._texts, self._tails = {}, {}


def _tails(key: str) -> list[str]:
    parts = PurePosixPath(key.replace("\\", "/")).parts
    return ["/".join(parts[-2:]), parts[-1]] if len(parts) > 1 else list(parts)


def read_contexts(address: str) -> dict[str, str]:
    """Key -> text, from a JSONL file, a Parquet file or a folder of Parquet files. Raises UserError."""
    texts: dict[str, str] = {}
    if files.is_folder(address):
        names = [name for name, _ in files.Folder(address).files() if name.endswith(".parquet")]
        if not names:
            raise UserError(f"describer.contexts: {address} holds no Parquet file")
        for name in names:
            texts.update(_from_parquet(files.join(address, name)))
        return texts
    if not files.is_file(address):
        raise UserError(f"describer.contexts: {address} does not exist")
    texts.update(_from_parquet(address) if address.endswith(".parquet") else _from_jsonl(address))
    if not texts:
        raise UserError(f"describer.contexts: {address} holds no contexts")
    return texts


def _from_jsonl(address: str) -> Iterator[tuple[str, str]]:
    try:
        text = files.read_bytes(address).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"describer.contexts: {address} is not UTF-8 text") from error
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a text may hold U+2028
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            raise UserError(f"describer.contexts: {address}, line {number}: not JSON ({why})") from error
        if not isinstance(record, dict) or not all(isinstance(value, str) for value in record.values()):
            raise UserError(f'describer.contexts: {address}, line {number}: expected {{"image path": "text"}}')
        yield from record.items()


def _from_parquet(address: str) -> Iterator[tuple[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(files.read_bytes(address)))
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"describer.contexts: {address} cannot be read as Parquet ({error})") from error
    column = next((name for name in ("source_key", "key") if name in table.column_names), None)
    if column is None or "context" not in table.column_names:
        raise UserError(f"describer.contexts: {address} needs the columns key (or source_key) and context")
    failed = table["error"].to_pylist() if "error" in table.column_names else [""] * len(table)
    rows = zip(table[column].to_pylist(), table["context"].to_pylist(), failed, strict=True)
    yield from ((key, text or "") for key, text, error in rows if not error)  # a retry has what failed, in its own file
