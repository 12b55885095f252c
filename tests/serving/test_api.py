"""The web interface without Ray: what is answered, and how what cannot be judged is refused."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from synood_ray.serving.refused import Refused
from synood_ray.serving.service import Asked, Verdict
from synood_ray.serving.uploads import Picture
from tests.detection.test_detector import NAMES, make_detector
from tests.detection.tiny_clip import ColourClip
from tests.serving.worlds import PNG, World, encoded


def turned() -> bytes:
    """A JPEG whose EXIF says that it lies on its side."""
    image = Image.effect_noise((40, 24), 90).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises more pixels than follow."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b""), b"IEND")
    packed = (struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(
    "data", [encoded(), encoded((9, 200, 10, 60)), encoded(form="WEBP"), turned()], ids=["png", "rgba", "webp", "exif"]
)
def test_an_image_is_judged_as_the_detector_judges_its_bytes(data: bytes) -> None:
    world = World()
    answer = world.client().post("/score", content=data, headers=PNG)
    assert answer.status_code == 200
    found, direct = answer.json(), world.detector(data)
    assert found == {
        "name": "",
        "score": direct.score.item(),
        "is_ood": direct.is_ood.item(),
        "threshold": 0.5,
        "class": direct.name[0],
        "probability": direct.probability.item(),
    }
    shares = world.detector.logits(data).softmax(1)
    assert found["probability"] == pytest.approx(shares.max().item()) and found["class"] == NAMES[shares.argmax()]


def test_the_explanations_are_the_detectors_and_cost_no_encoding() -> None:
    clip = Counting()
    world = World(make_detector(clip))
    clip.images = 0
    sent = [encoded(), encoded((10, 200, 30)), encoded((20, 30, 240))]
    files = [("a", ("torn.png", sent[0][:60])), *(("b", (f"{i}.png", one)) for i, one in enumerate(sent))]
    torn, *found = world.client().post("/score?explain=true", files=files).json()["results"]
    assert clip.images == 3 and torn.keys() == {"name", "error"}
    for one, data in zip(found, sent, strict=True):
        direct, why = world.detector.explain(data), one["explanation"]
        assert (one["class"], one["is_ood"], why["negative"]) == (direct.name, direct.is_ood, direct.negative)
        numbers = [one["score"], one["probability"], why["similarity"], why["negative_similarity"]]
        expected = [direct.score, direct.probability, direct.similarity, direct.negative_similarity]
        assert numbers == pytest.approx(expected, abs=1e-5) and why["parts"] == pytest.approx(direct.parts)
    assert "explanation" not in world.client().post("/score", content=sent[0], headers=PNG).json()


def test_who_does_not_ask_for_reasons_gets_none_whoever_is_judged_with_it() -> None:
    world, waiting = World(), list[Asked]()

    async def judge_both() -> list[Any]:
        both: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        async def together(asked: Asked) -> list[Verdict | Refused]:
            waiting.append(asked)
            if len(waiting) == 2:
                both.set_result(await world.service.batch(sorted(waiting, key=lambda one: one.explain)))
            return (await both)[int(asked.explain)]  # type: ignore[no-any-return]

        world.service._together = together
        pictures = [Picture("", encoded())]
        return await asyncio.gather(*(world.service.judge(pictures, explain=why) for why in (False, True)))

    (plain,), (told,) = asyncio.run(judge_both())
    assert plain.explanation is None and told.explanation is not None and plain.score == told.score


def test_a_broken_image_is_its_own_affair() -> None:
    world = World()
    good = [encoded(), encoded((10, 200, 30), "JPEG")]
    files = [("a", ("one.png", good[0])), ("b", ("torn.png", good[0][:60])), ("c", ("two.jpg", good[1]))]
    answer = world.client().post("/score", files=files)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [one["name"] for one in results] == ["one.png", "torn.png", "two.jpg"]
    assert [results[0]["score"], results[2]["score"]] == [world.detector(one).score.item() for one in good]
    assert results[1].keys() == {"name", "error"} and "cannot be" in results[1]["error"]
    only = world.client().post("/score", files=[("b", ("torn.png", good[0][:60]))])
    assert only.status_code == 422 and "error" in only.json()["results"][0]
    counted = {
        outcome: world.recorded.of("synood_serving_images", run="demo", outcome=outcome) or 0
        for outcome in ("id", "ood", "refused")
    }
    assert counted["refused"] == 2 and counted["id"] + counted["ood"] == 2


class Counting(ColourClip):
    """Counts the images that it encodes."""

    images = 0

    def encode_images(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return super().encode_images(images)


class RedIsNan(ColourClip):
    """A damaged encoder: bright red is no number."""

    def encode_images(self, images: Tensor) -> Tensor:
        red = (images[:, 0].mean(dim=(1, 2)) > 0.9)[:, None]
        return torch.where(red, torch.nan, super().encode_images(images))


@pytest.mark.parametrize("explain", [False, True])
def test_a_score_that_is_no_number_is_an_error_and_not_its_neighbours(explain: bool) -> None:
    world = World(make_detector(RedIsNan()))
    squares = [np.full((8, 8, 3), colour, np.uint8) for colour in ((20, 30, 40), (255, 0, 0), (0, 200, 90))]
    (found,) = asyncio.run(world.service.batch([Asked(squares, explain)]))
    assert [type(one) for one in found] == [Verdict, Refused, Verdict]
    assert [found[0].score, found[2].score] == world.detector([squares[0], squares[2]]).score.tolist()  # type: ignore[union-attr]
    answer = world.client().post("/score", params={"explain": explain}, content=encoded((255, 0, 0)), headers=PNG)
    assert answer.status_code == 500 and "no number" in answer.json()["error"]
    assert "score" not in answer.json() and "is_ood" not in answer.json()


def chunks(data: bytes) -> Iterator[bytes]:
    """A body whose length nobody says before."""
    for at in range(0, len(data), 50):
        yield data[at : at + 50]


FILES = [("a", (f"{i}.png", encoded())) for i in range(4)]


@pytest.mark.parametrize(
    ("request_", "status", "named"),
    [
        ({"content": bytes(2001), "headers": PNG}, 413, "longer than 2000 bytes"),
        ({"content": chunks(bytes(2001)), "headers": PNG}, 413, "longer than 2000 bytes"),
        ({"content": encoded(size=(60, 50)), "headers": PNG}, 413, "60x50 pixels"),
        ({"content": bomb(60000, 60000), "headers": PNG}, 422, "cannot be judged"),
        ({"content": bomb(16000, 16000), "headers": PNG}, 422, "179 million"),
        ({"content": bomb(10000, 9000), "headers": PNG}, 413, "10000x9000 pixels"),
        ({"content": b"hello", "headers": PNG}, 422, "not an image"),
        ({"content": b"", "headers": PNG}, 422, "empty"),
        ({"content": b"<svg/>", "headers": {"Content-Type": "image/svg+xml"}}, 422, "not an image"),
        ({"content": encoded(), "headers": {"Content-Type": "text/plain"}}, 415, "'text/plain' is not taken"),
        ({"content": encoded()}, 415, "No Content-Type"),
        ({"data": {"a": "b"}}, 415, "form-urlencoded"),
        ({"files": FILES}, 413, "more images than one request may have (3)"),
        ({"files": [("a", (None, "text"))]}, 400, "no file"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}}, 400, "form"),
        ({"json": {"urls": ["http://example.org/a.png"]}}, 403, "not taken here"),
        ({"content": encoded(), "headers": PNG, "params": {"explain": "perhaps"}}, 400, "explain"),
    ],
)  # fmt: skip
def test_what_is_refused(request_: dict[str, Any], status: int, named: str) -> None:
    client = World(max_bytes=2000, max_pixels=2000, max_images=3).client()
    answer = client.post("/score", **request_)
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    error = answer.json()["error"]
    assert named in error and error.endswith(".") and "\n" not in error


@pytest.mark.parametrize(
    "body", ["{", "[]", '{"urls": []}', '{"urls": "http://a"}', '{"urls": [1]}', '{"url": "http://a"}']
)
def test_a_body_that_names_no_address(body: str) -> None:
    client = World(urls="any").client()
    answer = client.post("/score", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"].endswith(".")


def test_a_client_that_sends_too_much_is_told_when_to_come_again() -> None:
    world = World(rate=0.5, burst=5, max_images=5)
    client = world.client()
    three = [("a", (f"{i}.png", encoded())) for i in range(3)]
    assert client.post("/score", files=three).status_code == 200
    refused = client.post("/score", files=three)
    assert refused.status_code == 429 and "0.5 images a second" in refused.json()["error"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 2
    assert client.post("/score", content=encoded(), headers=PNG).status_code == 200  # what was refused was not counted
    other = world.client(client=("10.0.0.9", 1))
    assert other.post("/score", files=three).status_code == 200


def test_other_pages() -> None:
    world = World()
    client = world.client()
    assert client.get("/healthz").json() == {"status": "ok"}
    about = client.get("/").json()
    assert (about["run"], about["classes"], about["threshold"]) == ("runs/demo", NAMES, 0.5)
    assert about["limits"]["max_images"] == 64 and about["thresholds"] == {}
    for method, path, status in (("GET", "/nowhere", 404), ("GET", "/score", 405), ("POST", "/", 405)):
        answer = client.request(method, path)
        assert answer.status_code == status and answer.json()["error"].endswith(".")
    described = client.get("/openapi.json").json()["paths"]["/score"]["post"]
    assert set(described["responses"]) >= {"413", "415", "422", "429"}
    requests = world.recorded.values["synood_serving_requests"]
    assert {dict(labels)["path"] for labels in requests} >= {"/", "/healthz", "other"}
    assert not any("nowhere" in str(labels) for labels in requests), "what others type makes no series"


def test_thresholds_by_recall() -> None:
    world = World()
    detector = world.detector
    detector.state["held_out"] = torch.linspace(0, 1, 101)
    found = world.client().get("/").json()["thresholds"]
    assert found == {name: detector.at_recall(float(name)).description.threshold for name in ("0.9", "0.95", "0.99")}


def test_a_defect_is_told_as_one_and_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    def fails(squares: Any, explain: bool) -> Any:
        raise RuntimeError("a secret")

    monkeypatch.setattr(world.service, "_verdicts", fails)
    answer = world.client(raise_server_exceptions=False).post("/score", content=encoded(), headers=PNG)
    assert answer.status_code == 500 and answer.json() == {"error": "The service failed; its log says why."}
    assert world.recorded.of("synood_serving_requests", run="demo", path="/score", status="500") == 1
