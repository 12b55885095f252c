"""The describer's parts that need no engine: templates, images, recorded contexts, a dead engine."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from synood_ray.config.models import DescriberSettings
from synood_ray.errors import UserError
from synood_ray.models.describers import open_describer
from synood_ray.models.describers.answers import Answer
from synood_ray.models.describers.base import (
    MAX_ASPECT,
    MAX_SIDE,
    EngineDeadError,
    presentable,
    presented_size,
    questions,
)
from synood_ray.models.describers.vllm import VllmDescriber

SMALL = Image.new("RGB", (8, 8), (200, 30, 30))


def words(text: str) -> int:
    return len(text.split())


def test_templates_are_filled() -> None:
    assert questions("Is {subject} here? {x}", ["a {b}"]) == ["Is a {b} here? {x}"]


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (3000, 1500), (20000, 3), (2, 500)])
def test_images_are_made_presentable(size: tuple[int, int]) -> None:
    image = presentable(Image.new("L", size, 7))
    assert image.mode == "RGB"
    assert max(image.size) == min(MAX_SIDE, max(size))
    assert max(image.size) <= MAX_ASPECT * min(image.size)
    assert presented_size(size) == image.size


@pytest.mark.parametrize("model", ["mini://models/nothing", "/nowhere", "./nowhere", "~nobody/x", "name-without-owner"])
def test_a_model_that_is_not_there_is_the_users_mistake(model: str) -> None:
    with pytest.raises(UserError, match=r"describer\.model"):
        open_describer(DescriberSettings(model=model))


def test_a_folder_without_a_model_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        open_describer(DescriberSettings(model=str(tmp_path)))


class TestRecorded:
    def describe(self, contexts: Path, *keys: str) -> list[str]:
        settings = DescriberSettings(contexts=str(contexts), context_tokens=3)
        describer = open_describer(settings, words)
        assert describer.shows([SMALL], ["fox"]) == [None]
        found = describer.describe([SMALL] * len(keys), ["fox"] * len(keys), keys)
        return [context.text for context in found]

    def test_jsonl(self, tmp_path: Path) -> None:
        path = tmp_path / "contexts.jsonl"
        lines = [{"/data/train/fox/1.jpg": "a fox, tree\nbell"}, {"/data/train/cat/1.jpg": "big old house, sun"}]
        path.write_text("\n".join(map(json.dumps, lines)) + "\n\n", encoding="utf-8")
        assert self.describe(path, "fox/1.jpg", "cat/1.jpg", "/data/train/fox/1.jpg") == [
            "tree, bell",
            "big old house",
            "tree, bell",
        ]
        with pytest.raises(UserError, match=r"no context for 'dog/1\.jpg'"):
            self.describe(path, "dog/1.jpg")
        with pytest.raises(UserError, match=r"no context for '1\.jpg'"):  # two images have this name
            self.describe(path, "1.jpg")

    @pytest.mark.parametrize("column", ["key", "source_key"])
    def test_prompts_of_another_run(self, tmp_path: Path, column: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = tmp_path / "prompts"
        folder.mkdir()
        for unit, (key, text) in enumerate([("a.png", "tree"), ("b.png", "bell")]):
            table = pa.table({column: [key], "context": [text], "raw": ["x"]})
            pq.write_table(table, folder / f"part-{unit:06d}.parquet")
        assert self.describe(folder, "b.png", "a.png") == ["bell", "tree"]
        assert self.describe(folder / "part-000000.parquet", "a.png") == ["tree"]
        failed = pa.table({column: ["c.png"], "context": [""], "raw": [""], "error": ["too long"]})
        retried = pa.table({column: ["c.png"], "context": ["sun"], "raw": ["x"], "error": [""]})
        pq.write_table(failed, folder / "part-000002.parquet")
        with pytest.raises(UserError, match=r"no context for 'c\.png'"):
            self.describe(folder, "c.png")
        pq.write_table(retried, folder / "part-000002-r1.parquet")
        assert self.describe(folder, "c.png") == ["sun"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'{"a": "tree"}\nnonsense\n', "line 2: not JSON"),
            (b'["a"]\n', "line 1: expected"),
            (b'{"a": 3}\n', "line 1: expected"),
            (b"\xff\xfe\x00", "not UTF-8"),
            (b"\n", "holds no contexts"),
        ],
    )
    def test_bad_files_name_file_and_line(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = tmp_path / "contexts.jsonl"
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            self.describe(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    def test_missing_and_foreign_files(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="does not exist"):
            self.describe(tmp_path / "nothing.jsonl")
        with pytest.raises(UserError, match="holds no Parquet file"):
            self.describe(tmp_path)
        (tmp_path / "x.parquet").write_bytes(b"PAR1")
        with pytest.raises(UserError, match="cannot be read as Parquet"):
            self.describe(tmp_path)


class BrokenEngine:
    """Stands in for vLLM's LLM: raises what it is told to."""

    def __init__(self, error: Exception, unfinished: int) -> None:
        self.error, self.unfinished = error, unfinished
        self.llm_engine = self
        self.calls = 0

    def has_unfinished_requests(self) -> bool:
        return self.unfinished > 0

    def step(self) -> None:
        self.unfinished -= 1
        if self.unfinished > 5:
            raise RuntimeError("broken for good")

    def chat(self, *_: object, **__: object) -> None:
        self.calls += 1
        raise self.error


def broken(error: Exception, unfinished: int) -> tuple[VllmDescriber, BrokenEngine]:
    describer = VllmDescriber.__new__(VllmDescriber)
    engine = BrokenEngine(error, unfinished)
    describer.settings, describer._count_tokens, describer._dead = DescriberSettings(), words, False
    describer._llm = engine
    return describer, engine


def test_a_dead_engine_stays_dead() -> None:
    describer, engine = broken(RuntimeError("out of memory"), unfinished=1)
    with pytest.raises(EngineDeadError, match="RuntimeError: out of memory"):
        describer._ask([SMALL], ["q"], None)
    with pytest.raises(EngineDeadError):
        describer._ask([SMALL], ["q"], None)
    assert engine.calls == 1


def test_a_refused_input_does_not_kill_the_engine() -> None:
    describer, engine = broken(ValueError("prompt too long"), unfinished=3)
    for _ in range(2):
        (answer,) = describer._ask([SMALL], ["q"], None)
        assert answer == Answer("", "vLLM refuses the question: prompt too long")
        assert engine.unfinished == 0  # the questions that were asked along with it are out of the way
    assert engine.calls == 2


def test_a_question_that_is_refused_does_not_take_others_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def chat(chats: list[Any], *_: object, **__: object) -> list[Any]:
        asked = [chat[0]["content"][1]["text"] for chat in chats]
        if "fox " * 400 in asked:
            raise ValueError("prompt\ntoo long")
        outputs = [[SimpleNamespace(text=text, token_ids=[1])] for text in asked]
        return [SimpleNamespace(prompt_token_ids=[1, 2], outputs=found) for found in outputs]

    describer, engine = broken(ValueError(), unfinished=0)
    monkeypatch.setattr(engine, "chat", chat)
    found = describer._ask([SMALL] * 3, ["a", "fox " * 400, "b"], None)
    assert found == [Answer("a"), Answer("", "vLLM refuses the question: prompt too long"), Answer("b")]


def test_an_engine_that_cannot_go_on_after_a_refusal_is_dead() -> None:
    describer, _ = broken(ValueError("step failed"), unfinished=9)
    with pytest.raises(EngineDeadError, match="broken for good"):
        describer._ask([SMALL], ["q"], None)
