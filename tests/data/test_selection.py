"""Selection: most bytes per pixel first, a held-out share that never overlaps, and no broken image among the chosen."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synood_ray.config.settings import DataSettings
from synood_ray.data.decode import decode
from synood_ray.data.images import ClassInfo, ImageSource, Progress, ScanResult
from synood_ray.data.selection import bytes_per_pixel, select
from synood_ray.data.source import open_source
from synood_ray.errors import UserError
from synood_ray.records import SourceImage
from tests.badimages import broken, encode, picture
from tests.data.conftest import MakeFolder, rows_of, write_parquet

GOOD = encode(picture(16, 16))
CUT = GOOD[: len(GOOD) // 2]


class Drawer(ImageSource):
    """A source of made-up sizes, some of whose images do not decode."""

    uri = "drawer"

    def __init__(self, sizes: list[list[tuple[int, int]]], bad: frozenset[str] = frozenset()) -> None:
        self.classes = [ClassInfo(f"c{label}", "same name") for label in range(len(sizes))]
        self.bad = bad
        self.reads: list[str] = []
        self.images = [
            SourceImage(f"c{label}/{i}", label, "same name", f"drawer/c{label}/{i}", n_bytes, side, side)
            for label, images in enumerate(sizes)
            for i, (n_bytes, side) in enumerate(images)
        ]

    def scan(self, progress: Progress | None = None) -> ScanResult:
        return ScanResult(list(self.images), [])

    def listing(self) -> dict[str, int]:
        return {image.key: image.n_bytes for image in self.images}

    def read(self, image: SourceImage) -> bytes:
        self.reads.append(image.key)
        return CUT if image.key in self.bad else drawn(image.key)


@functools.cache
def drawn(key: str) -> bytes:
    """A picture of its own for every key."""
    return encode(picture(16, 16, seed=int.from_bytes(key.encode(), "big") % 2**32))


sizes = st.lists(
    st.lists(st.tuples(st.integers(1, 200), st.sampled_from([1, 2, 3, 7, 10])), min_size=6, max_size=12),
    min_size=2,
    max_size=4,
)


@settings(max_examples=50)
@given(sizes, st.integers(1, 8), st.floats(0, 0.5), st.randoms(use_true_random=False))
def test_the_chosen_are_the_best_that_decode(sizes: list, per_class: int, holdout: float, random: object) -> None:
    everything = Drawer(sizes)
    by_class = [[image.key for image in everything.images if image.label == label] for label in range(len(sizes))]
    bad = frozenset(key for keys in by_class for key in random.sample(keys, random.randint(0, 2)))  # type: ignore[attr-defined]
    source = Drawer(sizes, bad)
    found = select(source, DataSettings(uri="drawer", per_class=per_class, holdout=holdout))
    chosen = {image.key for image in found.sources}
    held_out = {image.key for image in found.calibration}
    skipped = {skip.key for skip in found.skips}
    assert skipped <= bad and not bad & (chosen | held_out) and not chosen & held_out
    for label, keys in enumerate(by_class):
        mine = [image for image in found.sources if image.label == label]
        drawn = [key for key in keys if key in held_out]
        assert len(drawn) >= 1
        usable = [i for i in source.images if i.label == label and i.key not in held_out and i.key not in bad]
        expected = sorted(usable, key=lambda image: (-image.n_bytes / image.width / image.height, image.key))
        assert sorted(map(bytes_per_pixel, mine)) == sorted(map(bytes_per_pixel, expected[:per_class]))
        assert mine == sorted(mine, key=lambda image: (-bytes_per_pixel(image), image.key))
    assert [image.label for image in found.sources] == sorted(image.label for image in found.sources)


def test_sizes_are_compared_as_numbers() -> None:
    sizes = [[(9, 1), (10, 1), (100, 1), (1, 1), (99, 1), (1000, 10)]] * 2
    found = select(Drawer(sizes), DataSettings(per_class=10, holdout=0.0))
    values = [bytes_per_pixel(image) for image in found.sources if image.label == 0]
    assert values == sorted(values, reverse=True)
    assert len(values) == 5


def test_ties_go_by_key() -> None:
    found = select(Drawer([[(5, 1)] * 6] * 2), DataSettings(per_class=3))
    keys = [image.key for image in found.sources if image.label == 1]
    assert keys == sorted(keys)
    assert len(keys) == 3


def test_the_next_best_takes_a_bad_ones_place() -> None:
    sizes = [[(10 * i, 1) for i in range(1, 11)]] * 2
    whole = select(Drawer(sizes), DataSettings(per_class=3))
    first, second, _ = [image.key for image in whole.sources if image.label == 0]
    source = Drawer(sizes, frozenset([first, second]))
    found = select(source, DataSettings(per_class=3))
    values = [image.n_bytes for image in found.sources if image.label == 0]
    assert values == sorted(values, reverse=True)
    assert len(values) == 3
    assert {skip.key for skip in found.skips} == {first, second}
    assert all("cannot be decoded" in skip.reason for skip in found.skips)
    assert [i for i in found.sources if i.label == 1] == [i for i in whole.sources if i.label == 1]


def test_only_candidates_are_decoded() -> None:
    source = Drawer([[(10 * i, 1) for i in range(1, 101)]] * 2)
    select(source, DataSettings(per_class=4, holdout=0.02))
    assert len(source.reads) == 2 * (4 + 2)


def test_the_held_out_share() -> None:
    source = Drawer([[(5, 1)] * 40, [(5, 1)] * 3])
    found = select(source, DataSettings(per_class=20, holdout=0.25))
    assert [image.label for image in found.calibration].count(0) == 10
    assert [image.label for image in found.calibration].count(1) == 1
    few = select(source, DataSettings(per_class=2, holdout=0.25))  # never more of a class than are synthesized from
    assert [image.label for image in few.calibration].count(0) == 2


def test_the_held_out_draw_depends_on_the_keys_alone() -> None:
    small = select(Drawer([[(5, 1)] * 40] * 2), DataSettings(per_class=10))
    other_sizes = select(Drawer([[(5 + i, 3) for i in range(40)]] * 2), DataSettings(per_class=10))
    assert {i.key for i in small.calibration} == {i.key for i in other_sizes.calibration}


def test_one_image_a_class_is_too_little_to_hold_out() -> None:
    with pytest.raises(UserError, match=r"no usable image beyond the held-out one of class 'c1'; .*data\.calibration"):
        select(Drawer([[(5, 1)] * 5, [(5, 1)]]), DataSettings())


def test_a_class_without_images_is_named(make_folder: MakeFolder) -> None:
    folder = make_folder(["cat", "dog"])
    (folder / "new\nclass").mkdir()
    (folder / "new\nclass" / "note.txt").write_text("later")
    with pytest.raises(UserError) as raised:
        select(open_source(str(folder), DataSettings()), DataSettings())
    message = str(raised.value)
    assert "no usable image of class 'new\\nclass'" in message
    assert "(1 images were skipped, the first is 'new\\nclass/note.txt': not an image" in message
    assert "\n" not in message


def test_a_class_of_broken_images_is_named(make_folder: MakeFolder) -> None:
    folder = make_folder(["cat", "dog"])
    for path in (folder / "dog").iterdir():
        path.write_bytes(broken()["cut.png"].data)
    with pytest.raises(UserError, match=r"no usable image.* of class 'dog'"):
        select(open_source(str(folder), DataSettings()), DataSettings())


def test_the_zoo_leaves_only_images_that_decode(make_folder: MakeFolder) -> None:
    folder = make_folder(["cat", "dog"])
    for name, bad in broken().items():
        (folder / "cat" / name).write_bytes(bad.data)
    data = DataSettings(uri=str(folder), per_class=100)
    source = open_source(data.uri, data)
    found = select(source, data)
    assert len(found.sources) + len(found.calibration) == 12
    assert {skip.key for skip in found.skips} == {f"cat/{name}" for name in broken()}
    for image in found.sources + found.calibration:
        assert decode(source.read(image), data).size == (image.width, image.height)


def test_calibration_images_of_their_own(make_folder: MakeFolder) -> None:
    train, val = make_folder(["a", "b", "c"], name="train"), make_folder(["c", "a"], name="val", seed=1000)
    (val / "a" / "bad.png").write_bytes(broken()["cut.png"].data)
    data = DataSettings(uri=str(train), calibration=str(val), per_class=100)
    found = select(open_source(data.uri, data), data)
    assert len(found.sources) == 18
    assert {(image.label, image.name) for image in found.calibration} == {(0, "a"), (2, "c")}
    assert [skip.key for skip in found.skips] == ["a/bad.png"]


def test_calibration_images_must_be_others(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder()
    data = DataSettings(uri=str(folder), calibration=f"{folder}/")
    with pytest.raises(UserError, match=r"data\.calibration: .* shares 12 selected images with data\.uri"):
        select(open_source(data.uri, data), data)
    write_parquet(tmp_path / "p" / "x.parquet", rows_of([0, 1, 0, 1]), names=["a", "b"])
    data = DataSettings(uri=str(tmp_path / "p"), calibration=str(tmp_path / "p" / "x.parquet"))
    with pytest.raises(UserError, match="shares 4 selected images"):
        select(open_source(data.uri, data), data)


def test_progress_tells_the_stages() -> None:
    calls: list[tuple[str, int, int]] = []
    select(Drawer([[(5, 1)] * 9] * 2), DataSettings(per_class=3), lambda *call: calls.append(call))
    assert ("hold out", 4, 4) in calls
    assert calls[-1] == ("select", 6, 6)


def test_parquet_and_folder_choose_the_same(tmp_path: Path) -> None:
    rows = rows_of([0, 1] * 10)
    write_parquet(tmp_path / "x.parquet", rows, names=["a", "b"])
    for i, row in enumerate(rows):
        path = tmp_path / "folder" / "ab"[row["label"]] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image"]["bytes"])
    held_out = make_calibration(tmp_path)
    data = DataSettings(per_class=3, calibration=held_out)
    from_rows = select(open_source(str(tmp_path / "x.parquet"), data), data)
    from_files = select(open_source(str(tmp_path / "folder"), data), data)
    assert [image.key.partition("#")[2] for image in from_rows.sources] == [
        image.key[2:].removesuffix(".png") for image in from_files.sources
    ]


def make_calibration(tmp_path: Path) -> str:
    return str(write_parquet(tmp_path / "val.parquet", rows_of([0, 1]), names=["a", "b"]))


def test_a_selection_is_the_same_in_every_process(make_folder: MakeFolder) -> None:
    folder = make_folder(["cat", "dog", "owl"], per_class=12)
    script = (
        "import json, sys; from synood_ray.config.settings import DataSettings;"
        "from synood_ray.data.source import open_source;"
        "from synood_ray.data.selection import select; d = DataSettings(uri=sys.argv[1], per_class=4);"
        "s = select(open_source(d.uri, d), d);"
        "heavy = [m for m in ('torch', 'ray', 'boto3', 'pyarrow') if m in sys.modules];"
        "print(json.dumps([[i.key for i in s.sources], [i.key for i in s.calibration], heavy]))"
    )
    answers = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", script, str(folder)],
                env={**os.environ, "PYTHONHASHSEED": seed},
                check=True,
                capture_output=True,
            ).stdout
        )
        for seed in ("1", "2")
    ]
    assert answers[0] == answers[1]
    assert answers[0][2] == []
