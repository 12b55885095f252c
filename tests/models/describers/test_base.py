"""The describer's parts that need no engine: templates, images, recorded contexts, the HTTP client, a dead engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from synood_ray.config.settings import DescriberSettings
from synood_ray.errors import UserError
from synood_ray.models.describers import endpoint as describer_endpoint
from synood_ray.models.describers.base import (
    MAX_ASPECT,
    MAX_SIDE,
    Context,
    EngineDeadError,
    fill_prompt,
    open_describer,
    parse_yes_no,
    presentable,
    questions,
)
from synood_ray.models.describers.endpoint import EndpointDescriber
from synood_ray.models.describers.vllm import VllmDescriber

SMALL = Image.new("RGB", (8, 8), (200, 30, 30))


def words(text: str) -> int:
    return len(text.split())


def test_templates_are_filled() -> None:
    assert questions("Is {subject} here? {x}", ["a {b}"]) == ["Is a {b} here? {x}"]
    assert fill_prompt(DescriberSettings(prompt="A {context}!"), Context("tree", "raw")) == "A tree!"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("yes", True), (" Yes, it does.", True), ("NO.", False), ("no", False), ("nobody", None), ("", None), ("I", None)],
)
def test_yes_and_no(answer: str, expected: bool | None) -> None:
    assert parse_yes_no(answer) is expected


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (3000, 1500), (20000, 3), (2, 500)])
def test_images_are_made_presentable(size: tuple[int, int]) -> None:
    image = presentable(Image.new("L", size, 7))
    assert image.mode == "RGB"
    assert max(image.size) == min(MAX_SIDE, max(size))
    assert max(image.size) <= MAX_ASPECT * min(image.size)


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


Answer = Callable[[dict[str, Any], int], tuple[int, str]]


class Server:
    """A chat server whose answers a test writes: `answer(body, number of this request)` -> (status, text)."""

    def __init__(self, answer: Answer, models: list[str]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.active = self.most_active = 0
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def reply(self, status: int, body: object) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self.reply(200, {"data": [{"id": name} for name in models]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.bodies.append(body)
                    number = len(server.bodies)
                    server.active += 1
                    server.most_active = max(server.most_active, server.active)
                status, text = answer(body, number)
                with lock:
                    server.active -= 1
                self.reply(status, {"choices": [{"message": {"content": text}}]} if status == 200 else text)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(answer: Answer, models: tuple[str, ...] = ("only",)) -> Server:
        servers.append(Server(answer, list(models)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def endpoint(url: str, **settings: Any) -> EndpointDescriber:
    describer = open_describer(DescriberSettings(endpoint=url, **settings), words)
    assert isinstance(describer, EndpointDescriber)
    return describer


class TestEndpoint:
    def test_asks_and_cleans(self, serve: Callable[..., Server]) -> None:
        server = serve(lambda body, _: (200, "yes" if "structured_outputs" in body else "a fox, tree"))
        describer = endpoint(server.url + "/", max_new_tokens=9)
        assert describer.describe([SMALL], ["fox"]) == [Context("tree", "a fox, tree")]
        assert describer.shows([SMALL], ["fox"]) == [True]
        assert describer.describe([], []) == []
        describer.close()
        first, second = server.bodies
        assert first["model"] == "only" and first["temperature"] == 0 and first["max_tokens"] == 9
        image, text = first["messages"][0]["content"]
        assert image["image_url"]["url"].startswith("data:image/png;base64,")
        assert text["text"] == DescriberSettings().question.replace("{subject}", "fox")
        assert second["structured_outputs"] == {"choice": ["yes", "no"]}

    def test_keeps_order_and_its_bound(self, serve: Callable[..., Server]) -> None:
        both = threading.Barrier(2)  # two requests must be there at once, a third must not

        def answer(body: dict[str, Any], number: int) -> tuple[int, str]:
            both.wait(timeout=30)
            return 200, body["messages"][0]["content"][1]["text"]

        server = serve(answer)
        describer = endpoint(server.url, batch_size=2, question="q {subject}", context_tokens=9)
        names = [f"n{i}" for i in range(6)]
        assert [context.raw for context in describer.describe([SMALL] * 6, names)] == [f"q {name}" for name in names]
        assert server.most_active == 2
        describer.close()

    def test_tries_again(self, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(describer_endpoint, "BACKOFF", 0)
        statuses = [503, 429, 200]
        server = serve(lambda _, number: (statuses[number - 1], "tree"))
        describer = endpoint(server.url)
        assert describer.describe([SMALL], ["fox"])[0].text == "tree"
        assert len(server.bodies) == 3
        describer.close()

    def test_a_server_that_stays_away_is_a_dead_engine(
        self, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(describer_endpoint, "BACKOFF", 0)
        server = serve(lambda *_: (500, "boom"))
        describer = endpoint(server.url)
        with pytest.raises(EngineDeadError, match=r"5 attempts failed.*boom"):
            describer.shows([SMALL], ["fox"])
        describer.close()

    def test_a_refusal_is_told_at_once(self, serve: Callable[..., Server]) -> None:
        server = serve(lambda *_: (401, "wrong key"))
        describer = endpoint(server.url)
        with pytest.raises(UserError, match=r"HTTP 401.*wrong key"):
            describer.shows([SMALL], ["fox"])
        assert len(server.bodies) == 1
        describer.close()

    def test_wrong_addresses_and_models(self, serve: Callable[..., Server]) -> None:
        with pytest.raises(UserError, match="must begin with http"):
            endpoint("localhost:8000")
        server = serve(lambda *_: (200, ""), models=("a", "b"))
        with pytest.raises(UserError, match=r"serves \['a', 'b'\]; set describer\.model"):
            endpoint(server.url)
        assert endpoint(server.url, model="b")._choose_model() == "b"
        server.close()
        with pytest.raises(UserError, match="is the server running"):
            endpoint(server.url)


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
        with pytest.raises(ValueError, match="too long"):
            describer._ask([SMALL], ["q"], None)
        assert engine.unfinished == 0  # the questions that were asked along with it are out of the way
    assert engine.calls == 2


def test_an_engine_that_cannot_go_on_after_a_refusal_is_dead() -> None:
    describer, _ = broken(ValueError("step failed"), unfinished=9)
    with pytest.raises(EngineDeadError, match="broken for good"):
        describer._ask([SMALL], ["q"], None)
