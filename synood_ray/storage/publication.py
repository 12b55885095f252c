"""What a publication is made of, and whether that is still all there is.

Publications are numbered. Each is decided once, create-only, by the parts that are there; one that lacks parts which
have come since is followed by the next number, never changed. So a publisher knows which shards earlier ones named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.stored_json import load_json, put_json
from synood_ray.storage.stores.base import Entry, Put, Store

_ASKERS = 16
"""Questions to the store in flight at once."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A decision: the units that go in are all but quarantined_units, each with its part and that many retries.

    rows_per_shard, bytes_per_shard: where shards are cut. retries: units that have any. shards: how many there are;
    None if version 0.1.0 decided.
    """

    rows_per_shard: int
    bytes_per_shard: int
    quarantined_units: list[int]
    retries: dict[str, int]
    shards: int | None = None

    def lacks(self, parts: Mapping[int, list[Entry]]) -> bool:
        """Whether any of these parts, by unit, is not in the publication."""
        left_out = set(self.quarantined_units)
        return any(unit in left_out or len(parts[unit]) - 1 > self.retries.get(str(unit), 0) for unit in parts)

    def misses(self, parts: Mapping[int, list[Entry]], units: int) -> bool:
        """Whether any part that it names, of so many units, is not among these: it was put aside, or removed."""
        left_out = set(self.quarantined_units)
        return any(unit not in parts for unit in range(units) if unit not in left_out) or any(
            len(parts[int(unit)]) - 1 < retries for unit, retries in self.retries.items()
        )


def read_publications(store: Store) -> list[Publication]:
    """All publications that were ever decided on, in order of their numbers: 0, 1, …; the last one counts."""
    numbers = {layout.publication_number(entry.key) for entry in store.list(layout.PUBLICATION.partition(".")[0])}
    found: list[Publication] = []
    while len(found) in numbers:
        found.append(_read(store, layout.publication_key(len(found))))
    return found


def _read(store: Store, key: str) -> Publication:
    try:
        return Publication(**load_json(store, key) or {})
    except TypeError as error:
        raise UserError(f"{store.uri}/{key}: not a publication of synood_ray ({error}); was it edited?") from error


def put_publication(store: Store, number: int, publication: Publication) -> None:
    """Decide on a publication, unless somebody else has decided on the one of this number."""
    put_json(store, layout.publication_key(number), asdict(publication))


def announce_retries(store: Store, retries: Mapping[int, tuple[int, int]]) -> None:
    """Record which retry (its number) of which units will be made, of how many samples, before the first is.

    Whatever becomes of whoever makes them, `is_outdated` then knows what to look for.
    """
    known = _announced(store)
    new = {str(unit): again for unit, again in sorted(retries.items()) if (str(unit), again[0]) not in known}
    number = 1
    while new and put_json(store, layout.retries_key(number), new) is Put.DIFFERENT:
        number += 1


def is_outdated(store: Store, publication: Publication) -> bool:
    """Whether parts are there that the publication lacks.

    Asks only for those that can be: of the units that were given up, and retries that were announced. A listing of all
    parts takes minutes where there are a million.
    """
    left_out = [layout.part_key(unit) for unit in publication.quarantined_units]
    return _any_exists(store, [*left_out, *retries_since(store, publication)])


def unpublished_retries(store: Store) -> dict[str, int]:
    """Retries that were announced since the run was published last (`retries_since`), whether made or not."""
    publications = read_publications(store)
    return retries_since(store, publications[-1] if publications else None)


def retries_since(store: Store, publication: Publication | None) -> dict[str, int]:
    """Retries that were announced and are not in the publication: key of the part -> samples, 0 where whoever announced
    it was of a version that did not say how many."""
    named = publication.retries if publication else {}
    announced = _announced(store)
    return {layout.part_key(int(unit), n): announced[unit, n] for unit, n in announced if n > named.get(unit, 0)}


def _announced(store: Store) -> dict[tuple[str, int], int]:
    """All retries that were ever announced: unit and number -> samples; earlier versions wrote the number alone."""
    files: list[Mapping[str, Any]] = [load_json(store, entry.key) or {} for entry in store.list(layout.RETRIES)]
    announced = [
        (unit, again if isinstance(again, list) else [again, 0]) for one in files for unit, again in one.items()
    ]
    return {(unit, number): samples for unit, (number, samples) in announced}


def _any_exists(store: Store, keys: Iterable[str]) -> bool:
    askers = ThreadPoolExecutor(_ASKERS)
    try:
        return any(askers.map(store.exists, keys))
    finally:
        askers.shutdown(cancel_futures=True)


def earlier_shards(publications: Iterable[Publication], manifest: Mapping[str, Any] | None) -> set[str]:
    """Names of all shards that these publications and this manifest list: what may be replaced or removed."""
    keys = {layout.shard_key(i, p.shards) for p in publications if p.shards is not None for i in range(p.shards)}
    named = {str(shard["path"]) for shard in manifest["shards"]} if manifest else set()
    return keys | {key for key in named if layout.is_shard(key)}
