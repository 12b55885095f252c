"""Sources that do not go along when a run is shared: what a list means, and near-duplicates."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from synood_ray.data.left_out import alike, listed, read_list
from synood_ray.errors import UserError
from synood_ray.records import SourceImage
from synood_ray.storage import layout
from synood_ray.storage.run import Run
from synood_ray.storage.sources import encode_sources
from synood_ray.storage.stores import open_store
from tests.storage.builders import make_run, make_sources

SOURCES = make_sources(6)
KEYS = [source.key for source in SOURCES]


def content(source: SourceImage) -> bytes:
    return source.key.encode()


def never(source: SourceImage) -> bytes:
    raise AssertionError("no line is a digest")


@pytest.mark.parametrize(
    ("lines", "places", "unmatched"),
    [
        (["toucan-2/image 2.png"], {2}, ()),
        (["crane-*", "crane-1/*", "nowhere/*"], {0, 1, 3, 4}, ("nowhere/*",)),
        (["*/image [05].png", "toucan-2/image 2"], {0, 5}, ("toucan-2/image 2",)),
    ],
)
def test_keys_and_patterns(lines: list[str], places: set[int], unmatched: tuple[str, ...]) -> None:
    assert listed(SOURCES, lines, never) == ({KEYS[place] for place in places}, unmatched)


def test_a_key_that_looks_like_a_pattern_is_a_key() -> None:
    odd = [SourceImage(key, 0, "a", "", 1, 8, 8) for key in ("a[1].png", "a1.png")]
    assert listed(odd, ["a[1].png"], never) == ({"a[1].png"}, ())


def test_digests_of_files() -> None:
    digest = hashlib.sha256(content(SOURCES[3])).hexdigest()
    lines = [f"sha256:{digest.upper()}", "0" * 64]
    assert listed(SOURCES, lines, content) == ({KEYS[3]}, ("0" * 64,))


def test_an_image_that_is_gone_is_named() -> None:
    def gone(source: SourceImage) -> bytes:
        raise FileNotFoundError("No such file")

    with pytest.raises(UserError, match=r"--leave-out: crane-0/image 0.png cannot be read to compare its SHA-256"):
        listed(SOURCES, ["0" * 64], gone)


def test_a_list_is_text_with_something_in_it(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\ufeff# those who asked\n\n dog/3.jpg \ndog/#4.jpg\n", encoding="utf-8")
    assert read_list(str(path)) == ["dog/3.jpg", "dog/#4.jpg"]
    path.write_text("# nobody\n")
    with pytest.raises(UserError, match="no line in it"):
        read_list(str(path))
    for wrong in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="cannot be read as text"):
            read_list(str(wrong))


def test_near_duplicates_among_the_sources_of_a_class(tmp_path: Path) -> None:
    folder = open_store(str(tmp_path / "run"))
    """0 and 3 are of one class and alike, and so are 1 and 4; 2 is like 0, but of another class."""
    make_run(folder, samples=6)
    folder.put_new(layout.ID_MANIFEST, encode_sources(SOURCES))
    run = Run.open(folder)
    with pytest.raises(UserError, match="has no CLIP features of its ID images; synood finetune makes them"):
        alike(run, 0.01, frozenset())
    angles = np.array([0.0, 0.8, 0.0, 0.1, 0.85, 1.4])
    features = 7 * np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    folder.put_new(f"{layout.FEATURES}images-0.safetensors", save({"id": features}))
    assert alike(run, 0.01, frozenset()) == {KEYS[3], KEYS[4]}
    assert alike(run, 0.002, frozenset()) == {KEYS[4]}
    assert alike(run, 0.01, frozenset({KEYS[0]})) == {KEYS[4]}, "what is out keeps nobody else out"
