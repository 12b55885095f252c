"""Create-only object stores: a local folder, an S3 bucket, and whatever else stands in the table of schemes.

A kind is imported when it is asked for: its library may be in an extra.
"""

from __future__ import annotations

import re
from typing import Protocol

from synood_ray.errors import UserError
from synood_ray.extras import missing_extra
from synood_ray.storage.stores.base import Store
from synood_ray.storage.stores.counted import CountedStore


class Opener(Protocol):
    """Opens a store of one kind; see `open_store` for what it is asked."""

    def __call__(self, uri: str, *, write: bool, patient: bool) -> Store: ...


def _s3(uri: str, *, write: bool, patient: bool) -> Store:
    from synood_ray.storage.stores.s3 import S3Store

    return S3Store.open(uri, write=write, patient=patient)


def _local(uri: str, *, write: bool, patient: bool) -> Store:
    from synood_ray.storage.stores.local import LocalStore

    return LocalStore.open(uri.removeprefix("file://"), write=write)


SCHEMES: dict[str, Opener] = {
    "file": _local,
    "s3": _s3,
}
"""What a location begins with, before ``://`` -> how its store is opened. A location without it is a local folder."""


def open_store(uri: str, *, write: bool = True, patient: bool = False) -> Store:
    """Open a location of one of `SCHEMES`, or a local folder. Checks that it can be used; creates and writes nothing.

    write: the place need not exist yet but must be creatable; False: it must exist already and hold a file.
    patient: wait for a server that does not answer as long as any later call does, instead of seconds; for workers,
    which may be restarted while it is down and whose driver has found the location to be right.
    Raises UserError with one line that says what is wrong with the location.
    """
    if not uri:
        raise UserError("output: no location given; name a folder or s3://bucket/prefix")
    named = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", uri)
    opener = SCHEMES.get(named[1]) if named else _local
    if opener is None:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise UserError(f"{uri}: this kind of location is not supported; use a local folder or one of {known}")
    try:
        return CountedStore(opener(uri, write=write, patient=patient))
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
