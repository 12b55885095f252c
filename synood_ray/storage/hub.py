"""A published run as a dataset on the Hugging Face Hub: what goes there, and how it gets there."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc

from synood_ray.errors import Unavailable, UserError, first_line
from synood_ray.storage import layout
from synood_ray.storage.card import hub_card
from synood_ray.storage.parts import sample_schema, to_parquet
from synood_ray.storage.run import Run
from synood_ray.storage.stored_file import StoredFile

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

_BESIDE = (layout.MANIFEST, layout.RUN, layout.CALIBRATION, layout.EVALUATION)
"""What goes along with the shards, where the run has it. The ID manifest stays: it names files of this machine."""

_A_COMMIT = 50
"""Files a commit; the Hub asks for fewer than a hundred."""


@dataclass(frozen=True)
class Upload:
    """One file that goes to the Hub: its name there and here, bytes, and what it holds."""

    path: str
    size: int
    open: Callable[[], bytes | BinaryIO]


def dataset_files(run: Run, licence: str, without: frozenset[str] = frozenset()) -> tuple[list[Upload], int]:
    """The shards, then what tells of them, the card last: whoever sees a card sees all that it speaks of. And how many
    samples stay here.

    without: keys of sources whose samples do not go; shards, manifest and card are made anew then, and what an
    evaluation measured with all samples stays here.
    Raises UserError if the run is not published or a shard is not there as it was.
    """
    manifest = run.published()
    run.check_shards()
    if without:
        found, manifest = _sifted(run, manifest, without)
        beside = [_held(layout.MANIFEST, f"{json.dumps(manifest, sort_keys=True, indent=1)}\n".encode())]
        left = [layout.RUN, layout.CALIBRATION]
    else:
        found = [_stored(run, shard["path"], shard["bytes"]) for shard in manifest["shards"]]
        beside, left = [], list(_BESIDE)
    beside += [_held(key, run.store.get(key)) for key in left if run.store.exists(key)]
    card = _held(layout.CARD, hub_card(run.record, manifest, licence).encode())
    return [*found, *beside, card], manifest.get("left_out", 0)


def _sifted(run: Run, manifest: dict[str, Any], without: frozenset[str]) -> tuple[list[Upload], dict[str, Any]]:
    """Shards without these sources' samples, and the manifest of them. Each is made twice: for its size, and to go."""
    out, counts = pa.array(sorted(without)), Counter[str]()

    def rows(shard: dict[str, Any]) -> pa.Table:
        table = run.table(shard)
        table = table.filter(pc.invert(pc.is_in(table.column("source_key"), value_set=out)))
        return table.cast(sample_schema(run.classes))

    def made(shard: dict[str, Any]) -> Callable[[], bytes]:
        return lambda: to_parquet(rows(shard))

    files, shards = [], []
    for shard in manifest["shards"]:
        table = rows(shard)
        data = to_parquet(table)
        counts["failed"] += pc.sum(table.column("failed")).as_py() or 0
        counts["accepted"] += pc.sum(table.column("accepted")).as_py() or 0
        counts["rows"] += len(table)
        digest = hashlib.sha256(data).hexdigest()
        shards.append({**shard, "rows": len(table), "bytes": len(data), "sha256": digest})
        files.append(Upload(shard["path"], len(data), made(shard)))
    accepted, failed = counts["accepted"], counts["failed"]
    changed = {name: value for name, value in manifest.items() if name != "diversity"}
    changed |= {"shards": shards, "accepted": accepted, "failed": failed, "left_out_sources": len(without)}
    changed["left_out"] = sum(shard["rows"] for shard in manifest["shards"]) - counts["rows"]
    return files, changed | {"rejected": counts["rows"] - accepted - failed}


def _ours(name: str) -> bool:
    """Whether a file of a repository is of a push, by its name."""
    return layout.is_shard(name) or name in _BESIDE


def push_files(repo: str, files: Sequence[Upload], *, private: bool, api: HfApi) -> str:
    """Make the dataset repository if there is none and commit the files; returns its address.

    Files that the Hub has already are not sent again. What an earlier push has left there and this one does not have,
    shards of another number or an evaluation, goes with the last commit: the card speaks of all shards that are there.
    Raises UserError or Unavailable as `hub_errors` does.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    def ask() -> str:
        url = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        names, left = {one.path for one in files}, iter(files)
        older = [name for name in api.list_repo_files(repo, repo_type="dataset") if _ours(name) and name not in names]
        some = list(islice(left, _A_COMMIT))
        while some:
            added = [CommitOperationAdd(one.path, cast(Any, one.open())) for one in some]
            some = list(islice(left, _A_COMMIT))
            gone = [] if some else [CommitOperationDelete(name) for name in older]
            api.create_commit(repo, [*added, *gone], repo_type="dataset", commit_message=_message(added))
        return str(url)

    return hub_errors(repo, ask)


def hub_errors(repo: str, ask: Callable[[], str]) -> str:
    """What ask returns; what the Hub or the way to it raises becomes one line, with what to do."""
    from huggingface_hub import errors

    try:
        return ask()
    except errors.HFValidationError as error:
        raise UserError(f"--to {repo}: {first_line(error)}") from error
    except errors.OfflineModeIsEnabled as error:
        raise UserError("HF_HUB_OFFLINE is set: unset it to push") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403, 404):
            raise UserError(
                f"--to {repo}: the Hub refused ({status}); log in with `hf auth login` or set HF_TOKEN, with a token "
                "that may write there"
            ) from error
        if status >= 500 or status == 429:
            raise Unavailable(f"the Hub answers {status}: {first_line(error)}") from error
        raise UserError(f"--to {repo}: {first_line(error)}") from error
    except errors.HTTPError as error:  # the library's own HTTP client: no answer at all
        raise Unavailable(f"the Hub is not reached: {first_line(error)}") from error


def _message(added: list[CommitOperationAdd]) -> str:
    first, more = added[0].path_in_repo, len(added) - 1
    return f"synood push: {first}" + (f" and {more} more" if more else "")


def _stored(run: Run, key: str, size: int) -> Upload:
    return Upload(key, size, lambda: io.BufferedReader(StoredFile(run.store, key, size), 1 << 20))


def _held(key: str, data: bytes) -> Upload:
    return Upload(key, len(data), lambda: data)


def sizes(files: Iterable[Upload]) -> Iterator[str]:
    """A line a file: bytes and name."""
    for one in files:
        yield f"  {one.size:>14,}  {one.path}"
