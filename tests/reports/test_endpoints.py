"""Model servers (`describer.endpoint`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image

from synood_ray.config.models import DescriberSettings
from synood_ray.errors import Unavailable, UserError
from synood_ray.models.describers.endpoint import EndpointDescriber
from tests.chat_server import ChatProcess, chat_process
from tests.models.describers.test_endpoint_habits import Clock
from tests.reports.table import rows

SMALL = Image.new("RGB", (8, 8), (200, 30, 30))


pytestmark = pytest.mark.usefixtures("no_key")


@pytest.fixture(scope="module")
def process() -> Iterator[ChatProcess]:
    with chat_process() as running:
        yield running


def describer(url: str) -> EndpointDescriber:
    clock = Clock()
    settings = DescriberSettings(endpoint=url)
    return EndpointDescriber(settings, lambda text: len(text.split()), clock=clock, sleep=clock.sleep)


@rows(
    "habit, reason",
    ("trial", "a web page where the list of models should be", "refused, with the URL and what came", "html", "/v1"),
    ("trial", "a server that wants /v1", "refused, with the hint", "no_v1", "/v1"),
    ("trial", "a redirect with a password in it", "refused, the password not shown", "redirect", "gateway.example"),
    ("trial", "JSON 100,000 deep", "refused", "deep", "/v1"),
    (
        "chocolatey/chocolatey.org#560",
        "a server that repeats the wrong key",
        "refused, the key not shown",
        "key",
        "401",
    ),
)
def test_what_is_no_server_is_one_line(process: ChatProcess, habit: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        describer(process.url(habit) + "/v1")
    assert reason in str(caught.value) and "\n" not in str(caught.value) and "hunter" not in str(caught.value)


@rows(
    "habit",
    ("trial", "429 with Retry-After", "waited for as long as it says", "busy"),
    ("trial", "502 in a body of status 200", "asked again", "broken_upstream"),
    ("trial", "a connection that is cut off", "asked again", "hangs_up"),
    ("trial", "a field that the server does not know (400, 422)", "asked again without it", "strict422"),
)
def test_trouble_that_passes_is_waited_for(process: ChatProcess, habit: str) -> None:
    found = describer(process.url(habit) + "/v1")
    assert [context.text for context in found.describe([SMALL], ["owl"])] == ["tree, house"]
    assert found.shows([SMALL], ["owl"]) == [False]
    found.close()


@rows(
    "habit, error",
    (
        "trial",
        "one question of many is refused as too long",
        "its sample fails, the others are made",
        "fox_too_long",
        "maximum context length",
    ),
    (
        "trial",
        "an error body with status 200 for one image",
        "its sample fails, the others are made",
        "error200",
        "moderation failed",
    ),
)
def test_one_image_fails_alone(process: ChatProcess, habit: str, error: str) -> None:
    found = describer(process.url(habit) + "/v1")
    owl, fox = found.describe([SMALL] * 2, ["owl", "fox"])
    assert owl.text == "tree, house" and not fox.text and error in fox.error
    found.close()


@rows("habit", ("trial", "a server that answered once and goes away", "exit 4, resumable, with its words", "breaks"))
def test_a_server_that_went_away_is_no_mistake_of_the_user(process: ChatProcess, habit: str) -> None:
    found = describer(process.url(habit) + "/v1")
    found.describe([SMALL], ["owl"])
    with pytest.raises(Unavailable, match="out of memory"):
        found.describe([SMALL], ["owl"])
    found.close()
