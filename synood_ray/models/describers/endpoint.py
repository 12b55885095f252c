"""The describer that asks a running OpenAI-compatible server (vLLM's, or any other) over HTTP."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Sequence
from typing import Any

from PIL import Image

from synood_ray.config.models import DescriberSettings
from synood_ray.errors import UserError
from synood_ray.models.describers.answers import Answer, parse_yes_no
from synood_ray.models.describers.base import Context, clean_answers, presentable, questions
from synood_ray.models.describers.chat_server import ChatServer
from synood_ray.models.describers.contexts import TokenCounter

KEY = "OPENAI_API_KEY"
LOSSLESS_SIDE = 256  # pixels; larger images travel as JPEG


class EndpointDescriber:
    """Questions go to `settings.endpoint` (…/v1), up to `settings.batch_size` at once.

    The key in the variable OPENAI_API_KEY is sent if there is one. patient: the server has worked before, so one that
    cannot be reached is waited for. options: of `ChatServer`. Raises UserError if the server is none or does not let us
    in; Unavailable, from every method, if it stays away.
    """

    def __init__(
        self, settings: DescriberSettings, count_tokens: TokenCounter, patient: bool = False, **options: Any
    ) -> None:
        assert settings.endpoint is not None
        self.settings, self._count_tokens = settings, count_tokens
        self._server = ChatServer(settings.endpoint, api_key(), at_once=settings.batch_size, patient=patient, **options)
        self._model = self._choose_model()

    def describe(
        self, images: Sequence[Image.Image], subjects: Sequence[str], keys: Sequence[str] | None = None
    ) -> list[Context]:
        """See `Describer.describe`."""
        answers = self.answer(images, questions(self.settings.question, subjects))
        return clean_answers(self.settings, answers, subjects, self._count_tokens)

    def shows(self, images: Sequence[Image.Image], subjects: Sequence[str]) -> list[bool | None]:
        """See `Describer.shows`; a vLLM server may only answer yes or no, other servers' answers are read leniently."""
        extra = {"max_tokens": self.settings.max_new_tokens, "structured_outputs": {"choice": ["yes", "no"]}}
        answers = self._ask(images, questions(self.settings.check_question, subjects), extra)
        return [parse_yes_no(answer) for answer in answers]

    def answer(self, images: Sequence[Image.Image], asked: Sequence[str]) -> list[Answer]:
        """See `Describer.answer`."""
        return self._ask(images, asked, {"max_tokens": self.settings.max_new_tokens})

    def close(self) -> None:
        """Nothing to do: connections last as long as a batch of questions."""

    def _choose_model(self) -> str:
        """`settings.model` if the server has it, else the only model that it has."""
        served = self._server.models()
        if self.settings.model in served:
            return self.settings.model
        if len(served) == 1:
            return served[0]
        raise UserError(f"describer.endpoint: {self._server.url} serves {served}; set describer.model to one of them")

    def _ask(self, images: Sequence[Image.Image], asked: Sequence[str], extra: dict[str, Any]) -> list[Answer]:
        def body(image: Image.Image, question: str) -> dict[str, Any]:
            text = question.encode(errors="replace").decode()  # a folder's name may hold what is no character
            content = [{"type": "image_url", "image_url": {"url": data_uri(image)}}, {"type": "text", "text": text}]
            messages = [{"role": "user", "content": content}]
            return {"model": self._model, "messages": messages, "temperature": 0.0, "seed": 0, **extra}

        return self._server.ask([body(*one) for one in zip(images, asked, strict=True)])


def api_key() -> str:
    """The key of the variable OPENAI_API_KEY, or "". UserError, without the key, if no header can hold it."""
    key = os.environ.get(KEY, "")
    if key and not re.fullmatch(r"[!-~]+", key):
        raise UserError(f"{KEY}: holds a blank, a line break or a letter that no key has; set it anew")
    return key


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
