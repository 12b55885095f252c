"""Class names."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from synood_ray.config.models import DescriberSettings, ScorerSettings
from synood_ray.config.settings import DataSettings
from synood_ray.data.names import asked_about
from synood_ray.data.selection import select
from synood_ray.data.source import open_source
from synood_ray.errors import UserError
from synood_ray.models.describers.base import questions
from synood_ray.models.describers.contexts import clean_context
from synood_ray.models.scorer import Scorer, verdicts_of
from tests.data.conftest import MakeFolder, rows_of, write_parquet
from tests.reports.table import reported, rows

DATA = DataSettings()
IDS = "refused: ids, no names; data.class_names maps them, or keys takes them as they are"


@rows(
    "classes, words",
    (
        *("fastai/fastai#1552", "a folder that holds train and test", "refused; says which folder to give"),
        *(["train", "test"], "holds the splits 'test', 'train'.*such as .*/test"),
    ),
    (
        *("fastai/fastai#2336", "a test split beside class folders", "refused while two splits are among them"),
        *(["cat", "dog", "Train", "VAL"], "holds the splits"),
    ),
    (
        "trial",
        "a folder that holds only train",
        "refused as a split, not as a single class",
        ["train"],
        "the splits 'train'",
    ),
    (
        *("rom1504/img2dataset#16", "a downloader's folders 00000, 00001", "refused: numbers, no names"),
        *(["00000", "00001"], "numbers, not names.*data.class_names"),
    ),
    (
        "trial",
        "folders 0, 1, cat",
        "refused: numbers among the names",
        ["0", "1", "cat"],
        "numbers, not names \\('0', '1'\\)",
    ),
    ("trial", "folders class_0, class_1", IDS, ["class_0", "class_1"], "ids, not names"),
    (
        *("sassoftware/python-dlpy#215", "wnids that are not ImageNet-1k's", "refused: a map is needed"),
        *(["n09999999", "n09999998"], "the classes are wnids"),
    ),
    (
        "trial",
        "an icon theme's folders 48x48, 512x512",
        "refused: sizes; one of them is to be given",
        ["48x48", "512x512", "scalable"],
        "sizes, not classes.*such as .*/512x512",
    ),
    ("trial", "hashes as folders", "refused: ids, no names", ["d41d8cd98f", "0cc175b9c0"], "ids, not names"),
)
def test_what_is_no_name_is_refused_with_the_cure(make_folder: MakeFolder, classes: list[str], words: str) -> None:
    folder = make_folder(classes, per_class=1)
    with pytest.raises(UserError, match=words) as caught:
        open_source(str(folder), DATA)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(("data.uri: ", "the classes are wnids"))
    if len(classes) > 1:
        assert open_source(str(folder), DataSettings(class_names="keys")).classes, "those who mean it can say so"


@rows(
    "labels, kind, words",
    ("trial", "Parquet integers without names", "refused: numbers, no names", [0, 1], pa.int64(), "numbers, not names"),
    (
        "trial",
        "a blank Parquet label",
        "refused, with the count",
        ["", "cat", "dog"],
        pa.string(),
        "1 class with a blank name",
    ),
)
def test_parquet_labels_that_are_no_names(tmp_path: Path, labels: list, kind: pa.DataType, words: str) -> None:
    path = write_parquet(tmp_path / "x.parquet", rows_of(labels), kind)
    with pytest.raises(UserError, match=words):
        open_source(str(path), DATA)


@rows(
    "classes, names",
    (
        "trial",
        "a class called train among bus and car",
        "a name like others",
        ["bus", "car", "train"],
        ["bus", "car", "train"],
    ),
    (
        "trial",
        "002.Laysan_Albatross, 003.Sooty_Albatross",
        "Laysan Albatross, Sooty Albatross",
        ["002.Laysan_Albatross", "003.Sooty_Albatross"],
        ["Laysan Albatross", "Sooty Albatross"],
    ),
    (
        "trial",
        "golden_retriever",
        "golden retriever, in prompts and for CLIP",
        ["golden_retriever", "pug"],
        ["golden retriever", "pug"],
    ),
    ("trial", "a car called 4x4", "a name like others", ["4x4", "sedan"], ["4x4", "sedan"]),
    ("trial", "names in another script", "names like others", ["犬", "猫"], ["犬", "猫"]),
    ("trial", "two ImageNet wnids", "their curated names", ["n01440764", "n01443537"], ["tench", "goldfish"]),
)
def test_names_as_people_write_them(make_folder: MakeFolder, classes: list[str], names: list[str]) -> None:
    assert sorted(one.name for one in open_source(str(make_folder(classes, 1)), DATA).classes) == sorted(names)


@reported("openai/CLIP#235", "two classes of one name (ImageNet's missile, sunglasses)", "told by name at the start")
def test_equal_names_are_told(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", rows_of([0, 0, 1, 1, 2, 2]), names=["missile", "Missile ", "cat"])
    lines = select(open_source(str(path), DATA), DATA).about_classes()
    assert lines[0] == "classes (images): missile 2, Missile 2, cat 2"
    assert re.match(r"warning: 2 classes have the name 'missile' \('missile', 'Missile '\): nothing that", lines[1])


@reported("trial", "any set", "its class names and counts are printed when they are selected")
def test_names_and_counts_are_shown(make_folder: MakeFolder) -> None:
    source = open_source(str(make_folder([f"kind {letter}" for letter in "abcdefghijkl"], 2)), DATA)
    (line,) = select(source, DATA).about_classes()
    assert line.startswith("classes (images): kind a 2, kind b 2, ") and line.endswith(
        "… 12 classes, 2 to 2 images each"
    )


@reported(
    "sarahpratt/CuPL#2",
    "the semantic check by CLIP where two classes have one text",
    "an image of the one shows the other too: both are caught",
)
def test_the_check_catches_both_of_one_name() -> None:
    logits = torch.tensor([[25.0, 25.00001, 20.0, 24.0], [20.0, 20.0, 26.0, 24.0]])
    for label in (0, 1):
        assert verdicts_of(logits, torch.tensor([label] * 2), 3)[1].tolist() == [True, False]


@reported(
    "mlfoundations/open_clip#917",
    "names that differ only beyond the text tower's length",
    "told by name when the model is loaded",
)
def test_texts_that_are_cut_off_alike_are_told() -> None:
    long = "a very long name " * 20
    settings = ScorerSettings(model="mini://models/clip", pretrained=None, templates=["a photo of a {}."])
    with pytest.warns(UserWarning, match="same text features for 1 pairs of classes.*one'.*two'"):
        Scorer(settings, [long + "one", long + "two", "cat"])


@rows(
    "name, answer, left",
    (
        "trial",
        "“bat, flittermouse”",
        "both taken out of contexts",
        "bat, flittermouse",
        "a bat, flittermice, a cave",
        "cave",
    ),
    ("trial", "“cat (animal)”", "name and qualifier taken out", "cat (animal)", "a cat, an animal, grass", "grass"),
    (
        "trial",
        "“kite (bird of prey)”",
        "kites too; prey by itself stays",
        "kite (bird of prey)",
        "kites, a bird of prey, prey",
        "prey",
    ),
    (
        "trial",
        "“great white shark, white shark, man-eater”",
        "“a shark” too",
        "great white shark, white shark, man-eater",
        "a shark, sea",
        "sea",
    ),
    ("trial", "“dog/puppy”", "both", "dog/puppy", "a puppy, the dogs, grass", "grass"),
    ("trial", "“GoldenRetriever”", "“golden retriever” too", "GoldenRetriever", "a golden retriever, grass", "grass"),
    ("trial", "“cell phone”", "“cellphone” too", "cell phone", "a cellphone, a table", "table"),
    ("trial", "“café” with a combining accent", "the same word", "cafe\u0301", "a café, a table", "table"),
)
def test_every_name_inside_a_name_leaves_the_context(name: str, answer: str, left: str) -> None:
    assert clean_context(answer, name, limit_tokens=60, count_tokens=lambda text: len(text.split())) == left


@reported("trial", "“bat, flittermouse” in the semantic check", "asked about as “bat or flittermouse”")
def test_every_name_is_asked_about() -> None:
    assert questions(DescriberSettings().check_question, ["bat, flittermouse", "cat (animal)"]) == [
        "Does this image show a bat or flittermouse? Answer yes or no.",
        "Does this image show a cat (animal)? Answer yes or no.",
    ]
    assert asked_about("fox") == "fox"
