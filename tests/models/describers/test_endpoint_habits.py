"""The describer on a real HTTP server in another process, with the habits that servers have. Its waiting is counted,
not slept through."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from synood_ray import waits
from synood_ray.config.models import DescriberSettings
from synood_ray.errors import Unavailable, UserError
from synood_ray.models.describers import open_describer
from synood_ray.models.describers.base import Context
from synood_ray.models.describers.chat_server import BUDGET
from synood_ray.models.describers.endpoint import KEY, EndpointDescriber
from tests.chat_server import TREE, ChatProcess, chat_process

SMALL = Image.new("RGB", (8, 8), (200, 30, 30))
NAMES = ["owl", "fox", "cat"]


def words(text: str) -> int:
    return len(text.split())


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.noted: list[str] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.noted += [line for _, line in waits.current(0.0)]
        self.now += seconds
        await asyncio.sleep(0)


pytestmark = pytest.mark.usefixtures("no_key")


@pytest.fixture(scope="module")
def process() -> Iterator[ChatProcess]:
    with chat_process() as running:
        yield running


def describer(url: str, clock: Clock | None = None, patient: bool = False, **options: Any) -> EndpointDescriber:
    clock = clock or Clock()
    settings = {name: options.pop(name) for name in list(options) if name in DescriberSettings.model_fields}
    return EndpointDescriber(
        DescriberSettings(endpoint=url, **settings), words, patient, clock=clock, sleep=clock.sleep, **options
    )


def questions(process: ChatProcess, url: str) -> list[dict[str, Any]]:
    return [entry["posted"] for entry in process.log(url) if entry["posted"]]


def test_asks_and_cleans(process: ChatProcess) -> None:
    url = process.url("well") + "/v1/"
    found = open_describer(DescriberSettings(endpoint=url, max_new_tokens=9), words)
    assert isinstance(found, EndpointDescriber)
    assert found.describe([SMALL] * 2, ["fox", "house"]) == [Context("tree, house", TREE), Context("tree", TREE)]
    assert found.shows([SMALL], ["fox"]) == [False]
    assert found.describe([], []) == []
    found.close()
    first, _, third = questions(process, url.rstrip("/"))
    assert first["model"] == "m" and first["temperature"] == 0 and first["max_tokens"] == 9
    image, text = first["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert text["text"] in [DescriberSettings().question.replace("{subject}", name) for name in ("fox", "house")]
    assert third["structured_outputs"] == {"choice": ["yes", "no"]}


# Away: waited for, within a budget


@pytest.mark.parametrize(
    ("habit", "seconds"),
    [("busy", 160), ("broken", 20), ("broken_upstream", 20), ("maintenance", 20), ("garbled", 0), ("hangs_up", 0)],
)
def test_a_server_in_trouble_is_waited_for(process: ChatProcess, habit: str, seconds: float) -> None:
    clock = Clock()
    url = process.url(habit) + "/v1"
    found = describer(url, clock)
    assert found.describe([SMALL], ["fox"]) == [Context(TREE, TREE)]
    assert seconds <= sum(clock.slept) < BUDGET
    assert len(set(clock.slept)) == len(clock.slept), "with jitter"
    assert sum(line.startswith(f"{url} has not answered for ") for line in clock.noted) == len(clock.slept)
    assert url not in dict(waits.current(0.0)), "it has answered"
    if habit == "busy":
        assert min(clock.slept) >= 20, "Retry-After"


@pytest.mark.parametrize("habit", ["busy_list", "loading"])
def test_one_that_is_not_ready_yet_is_waited_for_too(process: ChatProcess, habit: str) -> None:
    clock = Clock()
    assert describer(process.url(habit) + "/v1", clock).describe([SMALL], ["fox"])[0].text == TREE
    assert len(clock.slept) == 6, "for the list of models and for the answer"


@pytest.mark.parametrize(
    ("habit", "told"),
    [("breaks", "HTTP 500: CUDA error: out of memory"), ("busy_from_then_on", "HTTP 429: Rate limit reached")],
)
def test_one_that_stays_away_ends_the_run_for_now(process: ChatProcess, habit: str, told: str) -> None:
    clock = Clock()
    url = process.url(habit) + "/v1"
    found = describer(url, clock)
    assert found.describe([SMALL], ["owl"])[0].text == TREE
    for _ in range(2):
        with pytest.raises(Unavailable, match=rf"{url} has given no answer for \d+ s.*{told}") as caught:
            found.shows([SMALL], ["fox"])
        assert "\n" not in str(caught.value)
        assert BUDGET / 2 < sum(clock.slept) <= BUDGET, "the budget is the server's, not each question's"


def test_one_that_wants_to_be_left_alone_for_longer_is_not_asked_again(process: ChatProcess) -> None:
    clock = Clock()
    found = describer(process.url("an_hour") + "/v1", clock)
    with pytest.raises(Unavailable, match=r"asks to be left alone for 3600 s: HTTP 429: quota used up"):
        found.describe([SMALL], ["fox"])
    assert not clock.slept


def test_one_that_dies_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_process() as own:
        found = describer(own.url("dies") + "/v1", batch_size=1)
        assert len(found.describe([SMALL] * 2, NAMES[:2])) == 2
        with pytest.raises(Unavailable, match=r"has given no answer for \d+ s: ConnectError"):
            found.describe([SMALL] * 3, NAMES)
        assert own.process.wait(30) == 1, "it had ended itself"


def test_one_that_cannot_be_reached_at_first_is_the_users_mistake_unless_it_could_before() -> None:
    with chat_process() as own:
        url = own.url("well") + "/v1"
    clock = Clock()
    with pytest.raises(UserError, match=rf"{url} does not answer \(ConnectError.*is the server running\?"):
        describer(url, clock)
    assert not clock.slept
    with pytest.raises(Unavailable, match="ConnectError"):
        describer(url, clock, patient=True)
    assert sum(clock.slept) > BUDGET / 2


def test_an_answer_that_drips_ends_in_time(process: ChatProcess) -> None:
    clock = Clock()
    found = describer(process.url("drips") + "/v1", clock, answer=0.3)
    assert found.describe([SMALL], ["fox"])[0].text == TREE
    assert len(clock.slept) == 1
    with pytest.raises(UserError, match=r"does not answer \(no answer within 0\.3 s\)"):
        describer(process.url("drips_list") + "/v1", answer=0.3)


# Wrong: told in one line, at once


@pytest.mark.parametrize(
    ("habit", "told"),
    [
        ("html", "answers HTTP 200, no JSON: Chat UI; does the address lack /v1?"),
        ("no_v1", "answers HTTP 200: Unexpected endpoint or method. (GET /models); does the address lack /v1?"),
        ("not_found", "answers HTTP 404: Not Found; does the address lack /v1?"),
        ("redirect", "answers HTTP 301 and points to https://gateway.example/v1/models; name that server"),
        ("null_list", 'gives no list of models ({"data": null}); does the address lack /v1?'),
        ("null", "gives no list of models (null); does the address lack /v1?"),
        ("deep", f"answers HTTP 200, no JSON: {'[' * 300}…; does the address lack /v1?"),
        ("two", "serves ['a', 'b']; set describer.model to one of them"),
        ("codes", f"answers HTTP 400: red {'x' * 296}…"),
        ("key", "answers HTTP 401: Incorrect API key provided: None"),
    ],
)
def test_what_is_no_such_server_is_told_in_one_line(process: ChatProcess, habit: str, told: str) -> None:
    clock = Clock()
    url = process.url(habit)
    with pytest.raises(UserError) as caught:
        describer(url, clock)
    assert str(caught.value) == f"describer.endpoint: {url} {told}"
    assert not clock.slept


def test_a_plain_list_of_models_will_do(process: ChatProcess) -> None:
    assert describer(process.url("plain_list") + "/v1").describe([SMALL], ["fox"])[0].text == TREE
    assert describer(process.url("two") + "/v1", model="b").describe([SMALL], ["fox"])[0].text == TREE


def test_one_that_answers_no_question_is_the_wrong_one(process: ChatProcess) -> None:
    url = process.url("blind") + "/v1"
    with pytest.raises(UserError, match=rf"{url} answers none of 3 questions: HTTP 400: m is not a multimodal model"):
        describer(url).describe([SMALL] * 3, NAMES)


# Questions that get no answer: their images fail, the others do not


@pytest.mark.parametrize(
    ("habit", "told"),
    [
        ("fox_too_long", "HTTP 400: This model's maximum context length is 256 tokens; you requested 700"),
        ("fox_breaks_it", "HTTP 500: CUDA error: out of memory"),
        ("error200", "HTTP 200: moderation failed"),
    ],
)
def test_one_question_that_a_server_cannot_answer_fails_alone(process: ChatProcess, habit: str, told: str) -> None:
    found = describer(process.url(habit) + "/v1")
    assert [(context.text, context.error) for context in found.describe([SMALL] * 3, NAMES)] == [
        (TREE, ""),
        ("", told),
        (TREE, ""),
    ]
    assert found.shows([SMALL] * 3, NAMES) == [False, None, False]


@pytest.mark.parametrize(
    ("habit", "told"),
    [
        ("null_choices", "the server's reply holds no answer"),
        ("empty", "the answer is empty (finish_reason stop)"),
        ("refusal_field", "refused: I can't help with that."),
    ],
)
def test_what_holds_no_answer_is_told(process: ChatProcess, habit: str, told: str) -> None:
    found = describer(process.url(habit) + "/v1")
    assert [context.error for context in found.describe([SMALL] * 2, NAMES[:2])] == [told] * 2
    assert found.shows([SMALL], ["fox"]) == [None]


def test_an_answer_in_parts_is_one(process: ChatProcess) -> None:
    assert describer(process.url("parts") + "/v1").describe([SMALL], ["fox"]) == [Context(TREE, TREE)]


# Fields


def test_a_field_that_was_taken_before_is_left_out_for_one_question_only(process: ChatProcess) -> None:
    url = process.url("fox_too_long_for_max_tokens") + "/v1"
    found = describer(url, batch_size=1)
    assert [context.text for context in found.describe([SMALL] * 3, NAMES)] == [TREE] * 3
    assert ["max_tokens" in body for body in questions(process, url)] == [True, True, False, True]


@pytest.mark.parametrize(
    ("habit", "field", "extra"),
    [
        ("strict", "structured_outputs", 1),
        ("strict422", "structured_outputs", 1),
        ("terse", "structured_outputs", 1),
        ("max_tokens", "max_tokens", 1),
        ("seed", "seed", 1),
    ],
)
def test_a_field_that_a_server_does_not_know_is_left_out(
    process: ChatProcess, habit: str, field: str, extra: int
) -> None:
    url = process.url(habit) + "/v1"
    found = describer(url)
    assert found.shows([SMALL], ["fox"]) == [False]
    assert found.shows([SMALL], ["fox"]) == [False]
    assert [field in body for body in questions(process, url)] == [True, False, False], "asked plainly, and remembered"


# Credentials


@pytest.mark.parametrize(
    "key", ["sk-hunter22\n", "sk-hunter22\r\nX: y", "sk-hünter22", "sk hunter22", "sk-hunter22\x00"]
)
def test_a_malformed_key_is_not_shown(process: ChatProcess, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr("os.environ", {KEY: key})
    with pytest.raises(UserError, match=f"{KEY}: holds") as caught:
        describer(process.url("key") + "/v1")
    assert "nter22" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_key_is_sent_and_never_shown(process: ChatProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-secret")
    assert describer(process.url("key") + "/v1").describe([SMALL], ["fox"])[0].text == TREE
    monkeypatch.setenv(KEY, "sk-hunter22")
    with pytest.raises(UserError, match=r"HTTP 401: Incorrect API key provided: Bearer …$"):
        describer(process.url("key") + "/v1")


def test_a_password_in_the_address_is_sent_and_never_shown(process: ChatProcess) -> None:
    url = process.url("basic") + "/v1"
    found = describer(url.replace("://", "://user:p%40ss%2Fword@"))
    assert found.describe([SMALL], ["fox"])[0].text == TREE
    with pytest.raises(UserError) as caught:
        describer(url.replace("://", "://user:hunter22@"))
    assert str(caught.value) == f"describer.endpoint: {url} answers HTTP 403: not Basic …"


# Many at once


def test_keeps_order_and_its_bound(process: ChatProcess) -> None:
    url = process.url("echoes") + "/v1"
    found = describer(url, batch_size=2, question="q {subject}", context_tokens=9)
    names = [f"n{i}" for i in range(6)]
    assert [context.raw for context in found.describe([SMALL] * 6, names)] == [f"q {name}" for name in names]
    assert max(entry["at_once"] for entry in process.log(url)) == 2
