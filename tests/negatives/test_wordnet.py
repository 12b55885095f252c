import gzip
from pathlib import Path

import pytest

from synood_ray.negatives.wordnet import comparable, id_forms, load_wordnet
from tools import derive_wordnet


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("Foxes", "fox"),
        ("berries", "berry"),
        ("glass", "glass"),
        ("cactus", "cactus"),
        ("sea_lions", "sea lion"),
        ("T-shirt", "t shirt"),
        ("mice", "mouse"),
        ("gas", "gas"),
        ("  two   words ", "two word"),
        ("bus", "bus"),
        ("churches", "church"),
        ("shoes", "shoe"),
    ],
)
def test_comparable_form(word: str, form: str) -> None:
    assert comparable(word) == form


def test_bundled_words() -> None:
    wordnet = load_wordnet()
    nouns, adjectives = wordnet.words("noun"), wordnet.words("adjective")
    assert (len(nouns), len(adjectives)) == (67_893 - 707, 14_045 - 39)  # without words doubled but for case
    assert len({word.lower() for word in nouns}) == len(nouns)
    assert "lighthouse" not in adjectives
    assert "adhesive" in adjectives


def test_synonyms_come_from_shared_sets() -> None:
    synonyms = load_wordnet().synonyms("cars")
    assert {"car", "automobile", "motorcar", "cable car"} <= synonyms
    assert "bicycle" not in synonyms


def test_id_forms_cover_parts_of_a_name_and_words_unknown_to_wordnet() -> None:
    forms = id_forms(["drake, male duck", "cow face"])
    assert {"drake", "male duck", "cow face"} <= forms


def test_derived_list_is_reproducible(tmp_path: Path) -> None:
    licence = "  1 This software and database …\n".replace("…", "...")
    (tmp_path / "data.noun").write_text(
        licence
        + "02958343 06 n 02 car 0 motor_car 0 001 @ 07679356 n 0000 | a motor vehicle  \n"
        + "09000000 18 n 01 baker 0 000 | a person  \n"
        + "02084071 05 n 01 dog 0 000 | an animal  \n07679356 13 n 01 bread 0 000 | a food  \n"
    )
    (tmp_path / "data.adj").write_text(
        licence
        + "00014358 00 s 02 galore(ip) 0 abundant 0 001 & 00013887 a 0000 | x\n"
        + "02600000 01 a 01 alimentary 0 000 | pertains\n"
    )
    for name in ("one.gz", "two.gz"):
        derive_wordnet.main(tmp_path, tmp_path / name)
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()
    assert (
        gzip.decompress((tmp_path / "one.gz").read_bytes())
        == b"r\talimentary\na\tgalore|abundant\nl\tbread\nl\tdog\no\tbaker\nn\tcar|motor car\t2\n"
    )
