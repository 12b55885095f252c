"""The ID manifest."""

from __future__ import annotations

import dataclasses

import pytest

from synood_ray.storage.sources import decode_sources, encode_sources, sources_digest
from tests.storage.builders import make_sources


def test_sources_come_back_as_they_were() -> None:
    sources = make_sources(250)
    table = decode_sources(encode_sources(sources))
    assert len(table) == 250
    assert list(table) == sources
    assert table[-1] == sources[-1]
    assert list(table[10:3:-2]) == sources[10:3:-2]
    assert table.labels.tolist() == [s.label for s in sources]
    assert encode_sources(table) == encode_sources(sources)


def test_sources_are_found_by_their_keys() -> None:
    sources = make_sources(20)
    table = decode_sources(encode_sources(sources))
    assert table.positions([sources[i].key for i in (7, 0, 19, 7)]) == [7, 0, 19, 7]
    assert table.positions([]) == []
    with pytest.raises(KeyError, match="nowhere"):
        table.positions([sources[1].key, "nowhere"])


def test_no_sources() -> None:
    table = decode_sources(encode_sources([]))
    assert len(table) == 0
    assert table.labels.tolist() == []


def test_the_digest_is_of_what_the_images_are_and_of_their_order() -> None:
    sources = make_sources(3)
    digest = sources_digest(sources)
    assert sources_digest(decode_sources(encode_sources(sources))) == digest
    moved = [dataclasses.replace(s, uri=f"s3://elsewhere/{s.key}") for s in sources]
    assert sources_digest(moved) == digest
    assert sources_digest(sources[::-1]) != digest
    for change in ({"key": "x"}, {"label": 9}, {"name": "x"}, {"n_bytes": 1}, {"width": 1}, {"box": (0, 0, 1, 1)}):
        assert sources_digest([dataclasses.replace(sources[0], **change), *sources[1:]]) != digest  # type: ignore[arg-type]
