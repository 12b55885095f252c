"""The describer on a real OpenAI-compatible server: vLLM's own, with the bundled model, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO

import pytest

from synood_ray.config.models import DescriberSettings
from synood_ray.mini import model_path
from synood_ray.models.describers import open_describer
from tools.mini_world.check_mllm import ask, bundled_scenes

pytestmark = pytest.mark.real

READY = "Application startup complete"


def words(text: str) -> int:
    return len(text.split())


def wait_until_ready(lines: IO[str]) -> None:
    """Read the server's log until it is up (or ends: then the test fails with that log)."""
    seen = []
    for line in lines:
        seen.append(line)
        if READY in line:
            threading.Thread(target=lines.read, daemon=True).start()  # a full pipe would stop the server
            return
    pytest.fail("the server ended:\n" + "".join(seen[-30:]))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "--model": str(model_path("mllm")),
        "--served-model-name": "mini",
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": "float32",
        "--max-model-len": "256",
        "--max-num-seqs": "16",
        "--kv-cache-memory-bytes": "1G",
        "--limit-mm-per-prompt": json.dumps({"image": 1, "video": 0}),
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
        "OMP_NUM_THREADS": "1",
    }
    server = subprocess.Popen(
        [*command, *(part for option in options.items() for part in option)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # its engine's processes end with it
    )
    assert server.stdout is not None
    try:
        wait_until_ready(server.stdout)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_describes_and_checks_through_the_server(address: str) -> None:
    settings = DescriberSettings(endpoint=address, max_new_tokens=24, context_tokens=24, batch_size=8)
    describer = open_describer(settings, words)
    answers = ask(describer, bundled_scenes("id_test", 48))
    assert answers.recall > 0.7
    assert answers.precision > 0.7
    assert answers.subject_named < 0.05
    assert answers.balanced > 0.8
    scenes = bundled_scenes("id_test", 1)
    (context,) = describer.describe(scenes.images, ["fox " * 400])
    assert "HTTP 400" in context.error and "256" in context.error
    assert describer.shows(scenes.images, ["fox " * 400]) == [None]
    describer.close()
