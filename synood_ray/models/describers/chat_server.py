"""A chat server (OpenAI's API over HTTP), and what becomes of its replies.

One place turns every reply into a result, a wait, a question that gets no answer, or one line that says what is wrong
with the address. A server that is busy, broken or gone is waited for within a budget.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import json
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

from synood_ray import used, waits
from synood_ray.errors import Unavailable, UserError, printable
from synood_ray.locations import without_credentials
from synood_ray.models.describers.answers import Answer

BUDGET = 300.0
"""Seconds that a server may go without answering anything before `Unavailable` is raised."""
ANSWER, LIST = 300.0, 30.0
"""Seconds that one answer, or the list of models, may take as a whole, however slowly it drips."""
CONNECT = 10.0
"""Seconds in which the server must take a connection."""
ATTEMPTS = 4
"""Failures of one question after which, each time, it is found out whether the server answers others."""
LONGEST_PAUSE = 16.0
SHORTEST_SECRET = 6  # characters; a key such as "none" is none
LONGEST_WORDS = 300  # characters of the server's words in a message

_BUSY = (408, 425, 429, 503)  # says nothing about the question
_ABOUT_THE_QUESTION = (400, 413, 415, 422, 451)
_OPTIONAL = ("structured_outputs", "seed", "max_tokens", "temperature")
"""Fields without which a question can be asked too; many servers do not know them."""

Sleep = Callable[[float], Awaitable[None]]


class _Away(Exception):  # noqa: N818
    """No result this time. wait: seconds the server asks for. own: the question may be what the server fails at."""

    def __init__(self, words: str, wait: float = 0.0, own: bool = False) -> None:
        super().__init__(words)
        self.wait, self.own = wait, own


class _Declined(Exception):  # noqa: N818
    """The server will not answer this question; it may well answer others. status: 0 without an HTTP error."""

    def __init__(self, words: str, status: int = 0, body: str = "") -> None:
        super().__init__(words)
        self.status, self.body = status, body


class ChatServer:
    """A server at `endpoint` (…/v1), whose user:password@ is sent as basic authentication and shown nowhere.

    key: a bearer token, used if the URL holds no password. at_once: questions in flight at the same time.
    patient: the server has worked before, so one that cannot be reached is waited for from the first contact on.
    clock, sleep: of the waiting between attempts.
    """

    def __init__(
        self,
        endpoint: str,
        key: str = "",
        *,
        at_once: int = 1,
        patient: bool = False,
        budget: float = BUDGET,
        answer: float = ANSWER,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        url = httpx.URL(endpoint)
        encoded = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
        self._secrets = [secret for secret in (key, url.password, encoded) if len(secret) >= SHORTEST_SECRET]
        self._auth = httpx.BasicAuth(url.username, url.password) if url.userinfo else None
        self._headers = {"Authorization": f"Bearer {key}"} if key and not url.userinfo else {}
        self._base = url.copy_with(userinfo=b"")
        self.url = without_credentials(str(self._base)).rstrip("/")
        self._at_once, self._patient = at_once, patient
        self._budget, self._answer, self._clock, self._sleep = budget, answer, clock, sleep
        self._tls = httpx.create_ssl_context()
        self._away_since: float | None = None  # nothing was answered since
        self._answered: dict[str, Any] | None = None  # the latest question that was
        self._taken: set[str] = set()  # fields of the questions that were answered
        self._left_out: set[str] = set()  # of `_OPTIONAL`: this server does not take them

    def models(self) -> list[str]:
        """Names of the models that it serves. Raises UserError if this is no such server, Unavailable."""
        return asyncio.run(self._models())

    def ask(self, bodies: Sequence[dict[str, Any]]) -> list[Answer]:
        """Answers to chat requests, in their order; a question that gets none has the server's words as its error.

        Raises Unavailable if the server stays away, UserError if it does not let us in or answers no question at all.
        """
        answers = asyncio.run(self._ask(bodies))
        if len(answers) > 1 and self._answered is None and all(answer.error for answer in answers):
            raise UserError(
                f"describer.endpoint: {self.url} answers none of {len(answers)} questions: {answers[0].error}"
            )
        return answers

    async def _models(self) -> list[str]:
        async with self._client() as client:
            found = await self._persist(client, "GET", "/models", None)
        entries = found.get("data") if isinstance(found, dict) else found
        if not isinstance(entries, list):
            raise self._wrong(f"gives no list of models ({self._words(json.dumps(found))})", hint=True)
        return [str(entry.get("id")) if isinstance(entry, dict) else str(entry) for entry in entries]

    async def _ask(self, bodies: Sequence[dict[str, Any]]) -> list[Answer]:
        turns = asyncio.Semaphore(self._at_once)

        async def one(client: httpx.AsyncClient, body: dict[str, Any]) -> Answer:
            async with turns:
                try:
                    return await self._plainly(client, body)
                except _Declined as declined:
                    return Answer("", str(declined))

        async with self._client() as client:
            return await asyncio.gather(*(one(client, body) for body in bodies))

    def _client(self) -> httpx.AsyncClient:
        options: dict[str, Any] = {"timeout": httpx.Timeout(None, connect=CONNECT), "limits": httpx.Limits()}
        return httpx.AsyncClient(headers=self._headers, auth=self._auth, verify=self._tls, **options)

    async def _plainly(self, client: httpx.AsyncClient, body: dict[str, Any]) -> Answer:
        """Ask; where a field is what the server objects to, ask without, and so from then on if that works."""
        left_out: set[str] = set()
        while True:
            asked = {name: value for name, value in body.items() if name not in self._left_out | left_out}
            try:
                reply = await self._persist(client, "POST", "/chat/completions", asked)
            except _Declined as declined:
                optional = {name for name in _OPTIONAL if name in asked}
                named = {name for name in optional if name in declined.body}
                objected = named or (optional & {_OPTIONAL[0]}) - self._taken
                if declined.status not in (400, 422) or not objected:
                    raise
                left_out |= objected
            else:
                self._answered = asked
                self._taken |= asked.keys()
                self._left_out |= left_out - self._taken  # one that it has taken before was too much this once
                _count_tokens(reply)
                return _answer_in(reply)

    async def _persist(self, client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """The JSON of a reply, however often it must be asked for. Raises _Declined, Unavailable, UserError."""
        failures, pause_limit, suspect = 0, 1.0, False
        while True:
            try:
                return await self._once(client, method, path, body)
            except _Away as away:
                if suspect and away.own:
                    raise _Declined(str(away)) from None  # the server has answered another question just now
                failures += 1
                await self._wait(away, pause_limit)
                pause_limit = min(2 * pause_limit, LONGEST_PAUSE)
                suspect = away.own and failures % ATTEMPTS == 0 and await self._answers_another(client)

    async def _answers_another(self, client: httpx.AsyncClient) -> bool:
        """Whether a question that was answered before is answered now."""
        if self._answered is None:
            return False
        try:
            await self._once(client, "POST", "/chat/completions", self._answered)
        except (_Away, _Declined):
            return False
        return True

    async def _wait(self, away: _Away, pause_limit: float) -> None:
        """Before the next attempt, with full jitter: many workers must not come back together."""
        now = self._clock()
        if self._away_since is None:
            self._away_since = now
        pause = away.wait + random.uniform(0.0, pause_limit)
        gone = now - self._away_since
        if gone + pause > self._budget:
            asked = f" and asks to be left alone for {away.wait:.0f} s" if away.wait > self._budget - gone else ""
            raise Unavailable(f"describer.endpoint: {self.url} has given no answer for {gone:.0f} s{asked}: {away}")
        waits.note(self.url, str(away))
        await self._sleep(pause)

    async def _once(self, client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """The JSON of one reply. Raises _Away, _Declined, UserError."""
        first = body is None and not self._patient
        seconds = self._answer if body else min(self._answer, LIST)
        url = self._base.copy_with(path=self._base.path.rstrip("/") + path)
        try:
            reply = await asyncio.wait_for(client.request(method, url, json=body), seconds)
        except (asyncio.TimeoutError, httpx.RequestError) as error:  # another class before Python 3.11
            late = isinstance(error, asyncio.TimeoutError)
            words = f"no answer within {seconds:g} s" if late else self._words(f"{type(error).__name__}: {error}")
            if first:
                raise self._wrong(f"does not answer ({words}); is the server running?") from error
            raise _Away(words, own=not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)) from error
        return self._read(reply)

    def _read(self, reply: httpx.Response) -> Any:
        asked = reply.request.method == "POST"
        status, text = reply.status_code, reply.text[:10_000]
        found: Any = None
        try:
            found = reply.json()
        except (ValueError, RecursionError):
            if reply.is_success and asked:  # it was a chat server before: a page of something in between
                raise _Away(f"no JSON: {self._words(text)}", own=True) from None
            if reply.is_success:
                raise self._wrong(f"answers HTTP {status}, no JSON: {self._words(text)}", hint=True) from None
        error = found.get("error") if isinstance(found, dict) else None
        if reply.is_success and error:  # some gateways tell the upstream's status only here
            code = error.get("code") if isinstance(error, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 200
        elif reply.is_success:
            self._answers()
            return found
        words = f"HTTP {status}: {self._words(_message(found) or text)}"
        if status in _BUSY or status >= 500:
            raise _Away(words, _retry_after(reply), own=status not in _BUSY)
        self._answers()  # it is there, and says so
        if asked and (status in _ABOUT_THE_QUESTION or status == 200):
            raise _Declined(words, status, text)
        if reply.has_redirect_location:
            raise self._wrong(
                f"answers HTTP {status} and points to {self._words(reply.headers['location'])}; name that server"
            )
        raise self._wrong(f"answers {words}", hint=status in (200, 404, 405))

    def _answers(self) -> None:
        self._away_since = None
        waits.over(self.url)

    def _wrong(self, said: str, hint: bool = False) -> UserError:
        advice = "" if not hint or self._base.path.rstrip("/").endswith("/v1") else "; does the address lack /v1?"
        return UserError(f"describer.endpoint: {self.url} {said}{advice}")

    def _words(self, text: str) -> str:
        """A server's words in a line: no markup, control codes or secrets, and not too many."""
        text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text[:10_000], flags=re.DOTALL | re.IGNORECASE)
        for secret in self._secrets:
            text = text.replace(secret, "…")
        text = " ".join(printable(without_credentials(text)).split())
        return text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS]}…"


def _count_tokens(reply: Any) -> None:
    """As the server counts them, if it does."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    for name, direction in (("prompt_tokens", "read"), ("completion_tokens", "written")):
        count = usage.get(name) if isinstance(usage, dict) else None
        if isinstance(count, int) and count > 0:
            used.add("synood_describer_tokens", direction, count)


def _answer_in(reply: Any) -> Answer:
    """The answer in a chat completion, or why there is none."""
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        content = message.get("content")
    except (TypeError, KeyError, IndexError, AttributeError):
        return Answer("", "the server's reply holds no answer")
    if isinstance(content, list):  # in parts
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    if content:
        return Answer(str(content))
    refusal, reason = message.get("refusal"), choice.get("finish_reason")
    return Answer("", f"refused: {refusal}" if refusal else f"the answer is empty (finish_reason {reason})")


def _message(found: Any) -> str:
    """The sentence in an error's JSON, if it is where servers put it."""
    for _ in range(3):
        if not isinstance(found, dict):
            break
        found = next((found[name] for name in ("error", "message", "detail", "msg") if found.get(name)), None)
    if isinstance(found, list | dict):
        return json.dumps(found, ensure_ascii=False)
    return found if isinstance(found, str) else ""


def _retry_after(reply: httpx.Response) -> float:
    """Seconds that the server asks to be left alone; 0 where it does not say."""
    text = reply.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d*)?", text):
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
