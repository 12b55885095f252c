"""A chat server with habits that people report, in a process of its own: ``python -m tests.chat_server`` says its port.

The first part of a path chooses the habit and is a server of its own: ``http://127.0.0.1:PORT/busy.7/v1``. What it was
asked is told at ``/log/busy.7``, one object a request.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TREE = "tree, house"


@dataclass
class Request:
    """posted: the body of a question, None where models are listed. number: of its kind at this server, from 1."""

    path: str
    posted: dict[str, Any] | None
    number: int
    authorization: str | None

    @property
    def question(self) -> str:
        return str(self.posted["messages"][0]["content"][1]["text"]) if self.posted else ""


@dataclass
class Reply:
    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    drip: float = 0.0  # seconds between bytes
    hang_up: bool = False


Habit = Callable[[Request], Reply]


def says(content: Any, **message: Any) -> Reply:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
    return Reply(200, {"object": "chat.completion", "choices": [choice]})


def well(request: Request) -> Reply:
    """What a server without habits answers."""
    if request.posted is None:
        return Reply(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})
    return says("no" if "Does this image show" in request.question else TREE)


def looks(request: Request) -> Reply:
    """One that knows what looks like a fox, and where it is: in an image of 56 x 56 pixels, the owl nowhere."""
    if request.question.startswith("What looks like"):
        return says("1. Wolf\n2. red fox\n3. jackal, a badger and many more things of its kind\n4. coyotes")
    if request.question.startswith("Where is"):
        return says(
            '```json\n[{"bbox_2d": [7, 14, 35, 49], "label": "fox"}]\n```' if "fox" in request.question else "No."
        )
    return well(request)


MEETING = threading.Barrier(2)  # two questions must be there at once


def echoes(request: Request) -> Reply:
    """One that answers with the question, to two at a time."""
    if request.posted is None:
        return well(request)
    MEETING.wait(timeout=30)
    return says(request.question)


def listing(reply: Reply) -> Habit:
    """A server whose list of models is this."""
    return lambda request: well(request) if request.posted else reply


def answering(reply: Reply) -> Habit:
    """One whose answers are all this."""
    return lambda request: reply if request.posted else well(request)


def at_first(times: int, reply: Reply, lists: bool = False) -> Habit:
    """One that answers like this the first times, and then well. lists: and lists its models in this way."""
    return lambda request: reply if request.number <= times and (lists or request.posted is not None) else well(request)


def from_second_on(reply: Reply) -> Habit:
    """One that answers a question once, and then like this."""
    return lambda request: reply if request.posted is not None and request.number > 1 else well(request)


def about_the_fox(reply: Reply) -> Habit:
    """One that cannot be asked about the fox."""
    return lambda request: reply if "fox" in request.question else well(request)


def strict(status: int, body: Any, name: str) -> Habit:
    """One that does not know a field."""
    return lambda request: Reply(status, body) if name in (request.posted or {}) else well(request)


def keyed(request: Request) -> Reply:
    """One that wants the key sk-secret, and repeats a wrong one."""
    if request.authorization == "Bearer sk-secret":
        return well(request)
    return Reply(401, {"error": {"message": f"Incorrect API key provided: {request.authorization}"}})


def basic(request: Request) -> Reply:
    """One behind a gateway with a password: user, p@ss/word."""
    expected = "Basic dXNlcjpwQHNzL3dvcmQ="
    return well(request) if request.authorization == expected else Reply(403, f"not {request.authorization}")


def dies(request: Request) -> Reply:
    """One that ends at its third question."""
    if request.posted and request.number > 2:
        os._exit(1)
    return well(request)


RATE = Reply(429, {"error": {"message": "Rate limit reached. Please try again in 20s."}}, {"Retry-After": "20"})
BROKEN = Reply(500, {"error": {"message": "CUDA error: out of memory"}})
UNKNOWN = {"error": {"message": "Unrecognized request argument supplied: structured_outputs"}}
EXTRA = {"detail": [{"type": "extra_forbidden", "loc": ["body", "structured_outputs"], "msg": "Extra inputs"}]}
TOO_LONG = {"error": {"message": "This model's maximum context length is 256 tokens; you requested 700"}}
HTML = "<!doctype html><html><style>a {}</style><title>Chat UI</title></html>"

HABITS: dict[str, Habit] = {
    "well": well,
    "echoes": echoes,
    "looks": looks,
    "html": listing(Reply(200, HTML)),
    "no_v1": listing(Reply(200, {"error": "Unexpected endpoint or method. (GET /models)"})),
    "not_found": listing(Reply(404, {"detail": "Not Found"})),
    "redirect": listing(Reply(301, "", {"Location": "https://user:hunter22@gateway.example/v1/models?key=hunter22"})),
    "null_list": listing(Reply(200, {"data": None})),
    "null": listing(Reply(200, None)),
    "plain_list": listing(Reply(200, [{"id": "m"}])),
    "deep": listing(Reply(200, "[" * 100_000)),
    "two": listing(Reply(200, {"data": [{"id": "a"}, {"id": "b"}]})),
    "codes": listing(Reply(400, "\x1b[31mred\x07\u2028" + "x" * 10**6)),
    "key": keyed,
    "basic": basic,
    "busy": at_first(8, RATE),
    "busy_list": at_first(3, RATE, lists=True),
    "loading": at_first(3, Reply(503, "Loading model"), lists=True),
    "an_hour": at_first(99, Reply(429, "quota used up", {"Retry-After": "3600"})),
    "broken": at_first(10, BROKEN),
    "broken_upstream": at_first(10, Reply(200, {"error": {"code": 502, "message": "Provider returned error"}})),
    "maintenance": at_first(10, Reply(200, HTML)),
    "garbled": at_first(2, Reply(200, '{"choices": [{"mess')),
    "hangs_up": at_first(3, Reply(0, "", hang_up=True)),
    "breaks": from_second_on(BROKEN),
    "busy_from_then_on": from_second_on(RATE),
    "drips": at_first(1, Reply(200, "x" * 400, drip=0.02)),
    "drips_list": listing(Reply(200, "x" * 400, drip=0.02)),
    "dies": dies,
    "strict": strict(400, UNKNOWN, "structured_outputs"),
    "strict422": strict(422, EXTRA, "structured_outputs"),
    "terse": strict(400, "Bad Request", "structured_outputs"),
    "max_tokens": strict(400, {"error": {"message": "Unsupported parameter: 'max_tokens'"}}, "max_tokens"),
    "seed": strict(422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs"}]}, "seed"),
    "fox_too_long": about_the_fox(Reply(400, TOO_LONG)),
    "fox_too_long_for_max_tokens": lambda request: (
        Reply(400, {"message": "max_tokens is too large: 64"})
        if "fox" in request.question and "max_tokens" in (request.posted or {})
        else well(request)
    ),
    "fox_breaks_it": about_the_fox(BROKEN),
    "blind": answering(Reply(400, {"error": {"message": "m is not a multimodal model"}})),
    "null_choices": answering(Reply(200, {"id": "x", "choices": None})),
    "error200": about_the_fox(Reply(200, {"error": "moderation failed"})),
    "empty": answering(says(None, reasoning_content="Okay, let me look at")),
    "refusal_field": answering(says(None, refusal="I can't help with that.")),
    "parts": answering(says([{"type": "text", "text": "tree, "}, {"type": "text", "text": "house"}])),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    logs: dict[str, list[dict[str, Any]]] = {}  # noqa: RUF012 - the process's
    lock, active = threading.Lock(), 0

    def do_GET(self) -> None:
        if self.path.startswith("/log/"):
            self.send(Reply(200, self.logs.get(self.path.removeprefix("/log/"), [])))
        else:
            self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, posted: dict[str, Any] | None) -> None:
        _, server, path = self.path.split("/", 2)
        authorization = self.headers.get("Authorization")
        with self.lock:
            Handler.active += 1
            log = self.logs.setdefault(server, [])
            number = 1 + sum((entry["posted"] is None) == (posted is None) for entry in log)
            asked = {"path": path, "posted": posted, "authorization": authorization, "at_once": self.active}
            log.append(asked)
        reply = HABITS[server.partition(".")[0]](Request(path, posted, number, authorization))
        with self.lock:
            Handler.active -= 1
        self.send(reply)

    def send(self, reply: Reply) -> None:
        if reply.hang_up:
            self.close_connection = True
            return
        data = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not reply.drip:
            self.wfile.write(data)
            return
        with contextlib.suppress(OSError):  # whoever asked has gone
            for byte in data:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(reply.drip)

    def log_message(self, *args: object) -> None:
        pass


class ChatProcess:
    """The server's process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "tests.chat_server"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.address = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        self.servers = 0

    def url(self, habit: str) -> str:
        """A new server of this habit, without /v1."""
        self.servers += 1
        return f"{self.address}/{habit}.{self.servers}"

    def log(self, url: str) -> list[dict[str, Any]]:
        """What a server was asked."""
        name = url.removesuffix("/v1").rpartition("/")[2]
        with urllib.request.urlopen(f"{self.address}/log/{name}") as found:
            return json.load(found)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def chat_process() -> Iterator[ChatProcess]:
    """A process with servers of all habits."""
    process = ChatProcess()
    try:
        yield process
    finally:
        process.close()


if __name__ == "__main__":
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(http.server_port, flush=True)
    http.serve_forever()
