"""The describer that asks a running OpenAI-compatible server (vLLM's, or any other) over HTTP."""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from PIL import Image

from synood_ray.config.settings import DescriberSettings
from synood_ray.errors import UserError
from synood_ray.models.describers.base import (
    Context,
    EngineDeadError,
    clean_answers,
    parse_yes_no,
    presentable,
    questions,
)
from synood_ray.models.describers.contexts import TokenCounter

ATTEMPTS = 5
BACKOFF = 0.5  # seconds before the second attempt; doubled each time
TIMEOUT = httpx.Timeout(300.0, connect=10.0)
LOSSLESS_SIDE = 256  # pixels; larger images travel as JPEG


class EndpointDescriber:
    """Questions go to `settings.endpoint` (…/v1), up to `settings.batch_size` at once.

    The key in the variable OPENAI_API_KEY is sent if there is one. Connection errors, 408, 429 and 5xx are tried again;
    a server that stays away raises EngineDeadError, one that refuses raises UserError with its own words.
    """

    def __init__(self, settings: DescriberSettings, count_tokens: TokenCounter) -> None:
        assert settings.endpoint is not None
        self.settings, self._count_tokens = settings, count_tokens
        self._url = settings.endpoint.rstrip("/")
        if not self._url.startswith(("http://", "https://")):
            raise UserError(f"describer.endpoint must begin with http:// or https://, but is {settings.endpoint!r}")
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(headers=headers, timeout=TIMEOUT)
        self._pool = ThreadPoolExecutor(settings.batch_size, thread_name_prefix="describer")
        try:
            self._model = self._choose_model()
        except BaseException:
            self.close()
            raise

    def describe(
        self, images: Sequence[Image.Image], subjects: Sequence[str], keys: Sequence[str] | None = None
    ) -> list[Context]:
        """See `Describer.describe`."""
        extra = {"max_tokens": self.settings.max_new_tokens}
        answers = self._ask(images, questions(self.settings.question, subjects), extra)
        return clean_answers(self.settings, answers, subjects, self._count_tokens)

    def shows(self, images: Sequence[Image.Image], subjects: Sequence[str]) -> list[bool | None]:
        """See `Describer.shows`; a vLLM server may only answer yes or no, other servers' answers are read leniently."""
        extra = {"max_tokens": 8, "structured_outputs": {"choice": ["yes", "no"]}}
        answers = self._ask(images, questions(self.settings.check_question, subjects), extra)
        return [parse_yes_no(answer) for answer in answers]

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def _choose_model(self) -> str:
        """`settings.model` if the server has it, else the only model that it has."""
        body = self._request("GET", "/models", None, attempts=1)
        served = [str(entry["id"]) for entry in body.get("data", [])]
        if self.settings.model in served:
            return self.settings.model
        if len(served) == 1:
            return served[0]
        raise UserError(f"describer.endpoint: {self._url} serves {served}; set describer.model to one of them")

    def _ask(self, images: Sequence[Image.Image], asked: Sequence[str], extra: dict[str, Any]) -> list[str]:
        def answer(image: Image.Image, question: str) -> str:
            content = [
                {"type": "image_url", "image_url": {"url": data_uri(image)}},
                {"type": "text", "text": question},
            ]
            messages = [{"role": "user", "content": content}]
            body = {"model": self._model, "messages": messages, "temperature": 0.0, "seed": 0, **extra}
            reply = self._request("POST", "/chat/completions", body, attempts=ATTEMPTS)
            return str(reply["choices"][0]["message"]["content"] or "")

        if len(images) != len(asked):
            raise ValueError(f"{len(images)} images, but {len(asked)} subjects")
        return list(self._pool.map(answer, images, asked))

    def _request(self, method: str, path: str, body: dict[str, Any] | None, attempts: int) -> dict[str, Any]:
        problem = ""
        for attempt in range(attempts):
            if attempt:
                time.sleep(BACKOFF * 2 ** (attempt - 1))
            try:
                reply = self._client.request(method, self._url + path, json=body)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if reply.is_success:
                parsed: dict[str, Any] = reply.json()
                return parsed
            problem = f"HTTP {reply.status_code}: {' '.join(reply.text.split())[:300]}"
            if reply.status_code not in (408, 429) and reply.status_code < 500:
                raise UserError(f"describer.endpoint: {self._url}{path} answers {problem}")
        if attempts == 1:
            raise UserError(f"describer.endpoint: no answer from {self._url} ({problem}); is the server running?")
        raise EngineDeadError(f"describer.endpoint: {self._url}: {attempts} attempts failed, the last with {problem}")


def data_uri(image: Image.Image) -> str:
    """The image in a data: address; PNG up to LOSSLESS_SIDE pixels, JPEG of quality 95 above."""
    image = presentable(image)
    lossless = max(image.size) <= LOSSLESS_SIDE
    buffer = io.BytesIO()
    if lossless:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=95)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
