"""Stored files that somebody has damaged: told in one line that names the file, whatever their reader raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from synood_ray.errors import Unavailable, UserError, first_line
from synood_ray.storage.stores.base import NotFound, Store


@contextmanager
def intact(store: Store, key: str, cure: str = "put back a copy of it, or start in another --output") -> Iterator[None]:
    """Reading and parsing of one file of a run. Raises UserError, with the cure, if it is gone or not what it was."""
    try:
        yield
    except (UserError, Unavailable):
        raise
    except NotFound as error:
        raise UserError(f"{store.uri}/{key}: is gone; {cure}") from error
    except Exception as error:  # pyarrow, safetensors and JSON each have errors of their own
        raise UserError(f"{store.uri}/{key}: damaged ({type(error).__name__}: {first_line(error)}); {cure}") from error
