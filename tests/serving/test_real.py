"""`synood serve` as a user has it: one real Ray Serve on loopback, the bundled CLIP, requests as curl sends them."""

from __future__ import annotations

import contextlib
import io
import json
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from PIL import Image

from benchmarks import serving
from synood_ray import Detector
from synood_ray.config.serving import ServingSettings
from tests.cluster_files.prometheus import ask, prometheus_of
from tests.cluster_files.test_monitoring import CLUSTER, of_service
from tests.installing import save_mini_detector
from tests.jobs.conftest import run, start

pytestmark = pytest.mark.real
PNG = {"Content-Type": "image/png"}
RAY_SERVICE = CLUSTER / "kuberay" / "service.yaml"


TOKEN = secrets.token_hex(32)
"""Of the cluster's dashboard."""


@dataclass(frozen=True)
class Served:
    """A running `synood serve`; dashboard: its cluster's; detector: the same one, in this process."""

    process: subprocess.Popen[str]
    address: str
    dashboard: str
    home: Path
    folder: str
    detector: Detector
    images: list[bytes]


def pictures(count: int) -> list[bytes]:
    found = []
    for index in range(count):
        buffer = io.BytesIO()
        Image.effect_noise((80 + index, 60), 20 + 10 * index).convert("RGB").save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    detector, _ = save_mini_detector(tmp_path_factory.mktemp("served"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = Path(tempfile.mkdtemp(prefix="serve-"))  # a short name: Ray's sockets lie below
    settings = {
        "port": port, "max_bytes": 1_000_000, "max_images": 40, "rate": 0.1, "burst": 400, "urls": "public",
        "concurrent": 2, "queue": 4, "replicas.cpus": 1,
    }  # fmt: skip
    options = [word for name, value in settings.items() for word in (f"--serving.{name}", str(value))]
    soon = {"RAY_TMPDIR": str(home), "RAY_metrics_report_interval_ms": "500", "RAY_AUTH_TOKEN": TOKEN}
    process = start("serve", "--run", detector, *options, **soon)
    said = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if "try: curl" in line:
                break
        else:
            pytest.fail(f"synood serve ended: {said}\n{process.stderr.read()}")  # type: ignore[union-attr]
        address = f"http://127.0.0.1:{port}"
        assert f"served at {address}\n" in said
        (dashboard,) = re.findall(r"dashboard at (\S+)", said)
        yield Served(process, address, dashboard, home, detector, Detector.load(detector), pictures(6))
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def test_one_after_the_other(served: Served) -> None:
    for data in served.images:
        answer = httpx.post(f"{served.address}/score", params={"explain": True}, content=data, headers=PNG, timeout=60)
        assert answer.status_code == 200
        found, direct, why = answer.json(), served.detector(data), served.detector.explain(data)
        assert found["score"] == pytest.approx(direct.score.item(), abs=1e-5)
        assert found["is_ood"] == direct.is_ood.item() and found["class"] == direct.name[0]
        assert found["probability"] == pytest.approx(direct.probability.item(), abs=1e-4)
        assert found["explanation"]["negative"] == why.negative
    about = httpx.get(served.address, timeout=60).json()
    assert about["classes"] == ["cat", "dog"] and about["limits"]["urls"] == "public"
    assert httpx.get(f"{served.address}/healthz", timeout=60).json() == {"status": "ok"}


def test_replicas_have_the_priority_of_the_command(served: Served) -> None:
    command = psutil.Process(served.process.pid)
    names = {one: "".join(one.cmdline()[:1]) for one in command.children(recursive=True)}
    replicas = [one for one, name in names.items() if name.startswith("ray::ServeReplica")]
    assert [one.nice() for one in replicas] == [command.nice()]


def test_many_at_once_among_broken_ones(served: Served) -> None:
    """Forms of many images, several of them at the same time: everybody gets their own answers, in order."""
    good = served.detector(served.images).score.tolist()

    def send(first: int) -> httpx.Response:
        chosen = [(first + i) % 6 for i in range(12)]
        files = [("image", (f"{one}.png", served.images[one])) for one in chosen]
        files.insert(first, ("image", ("broken.png", served.images[first][:-400])))
        return httpx.post(f"{served.address}/score", files=files, timeout=60)

    with ThreadPoolExecutor(2) as clients:
        for first, answer in enumerate(clients.map(send, range(6))):
            assert answer.status_code == 200, answer.text
            results = answer.json()["results"]
            assert results.pop(first).keys() == {"name", "error"}
            expected = [good[(first + i) % 6] for i in range(12)]
            assert [one["score"] for one in results] == pytest.approx(expected, abs=1e-5)


def test_what_is_refused(served: Served) -> None:
    with httpx.Client(base_url=served.address, timeout=60) as client:
        for request, status in (
            ({"content": bytes(5_000_000), "headers": PNG}, 413),
            ({"content": served.images[0], "headers": {"Content-Type": "text/plain"}}, 415),
            ({"content": b"no image", "headers": PNG}, 422),
            ({"json": {"urls": [f"{served.address}/a.png"]}}, 403),
        ):
            answer = client.post("/score", **request)  # type: ignore[arg-type]
            assert answer.status_code == status, answer.text
            told = answer.json()
            assert "score" not in str(told) and (told.get("error") or told["results"][0]["error"]).endswith(".")
    other = httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2"), timeout=60)  # another client
    files = [("image", (f"{i}.png", served.images[0])) for i in range(40)]
    answers = [other.post(f"{served.address}/score", files=files) for _ in range(11)]
    assert [one.status_code for one in answers] == [200] * 10 + [429]
    assert int(answers[-1].headers["Retry-After"]) > 1


def test_too_many_at_a_time(served: Served) -> None:
    """Two at work and four that wait: others are told at once to come again, by Ray Serve, in our words."""

    def send(index: int) -> httpx.Response:
        transport = httpx.HTTPTransport(local_address=f"127.0.1.{index + 1}")
        with httpx.Client(transport=transport, timeout=120) as client:
            files = [("image", (f"{i}.png", served.images[i % 6])) for i in range(20)]
            return client.post(f"{served.address}/score?explain=true", files=files)

    with ThreadPoolExecutor(24) as clients:
        answers = list(clients.map(send, range(24)))
    refused = [one for one in answers if one.status_code != 200]
    assert refused and len(answers) - len(refused) >= 6
    for one in refused:
        assert (one.status_code, one.json()) == (503, {"error": "No replica is free; try again."})
        assert one.headers["Retry-After"] == "1"
    own = {**PNG, "X-Request-Timeout-Seconds": "0.001"}  # by which Serve's proxy lets clients choose the limit
    assert httpx.post(f"{served.address}/score", content=served.images[0], headers=own, timeout=60).status_code == 200


def test_the_benchmark_measures_it(served: Served) -> None:
    settings = ServingSettings(port=int(served.address.rpartition(":")[2]))
    data = [served.images[i % 6] for i in range(serving.BATCH)]
    found = serving.measure(settings, served.detector, data, blocks=1, clients={"forms": 1, "singles": 2})
    assert all(0 < found["latency"][name]["p50"] <= found["latency"][name]["p95"] for name in found["clients"])
    assert serving.targets(found)[0].value == found["over_in_process"]["forms"]["ratio"] > 0


def places(served: Served) -> list[str]:
    """Where the cluster exports metrics, by the file that Ray writes for Prometheus."""
    targets = json.loads((served.home / "ray" / "prom_metrics_service_discovery.json").read_text())
    return [place for target in targets for place in target["targets"]]


def test_the_numbers_of_all_that(served: Served) -> None:
    def scraped() -> str:
        found = ""
        for place in places(served):
            with (
                contextlib.suppress(OSError),  # the dashboard's own port may belong to another cluster
                urllib.request.urlopen(f"http://{place}/metrics", timeout=10) as answer,
            ):
                found += answer.read().decode()
        return found

    wanted = [
        *(rf'ray_synood_serving_requests_total{{.*path="/score".*status="{status}"' for status in (200, 413, 415, 429)),
        r"ray_synood_serving_seconds_bucket{.*path=\"/score\"",
        *(rf'ray_synood_serving_images_total{{.*outcome="{outcome}"' for outcome in ("id", "refused")),
        r"ray_synood_serving_batch_images_bucket{.*le=\"32",
    ]
    deadline = time.monotonic() + 60
    while missing := [one for one in wanted if not re.search(one, text := scraped())]:
        assert time.monotonic() < deadline, missing
        time.sleep(0.5)
    assert 'run="detector"' in text


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed (Debian package)")
def test_every_query_of_the_dashboards_row_has_an_answer(served: Served, tmp_path: Path) -> None:
    silent = of_service()
    assert silent
    deadline = time.monotonic() + 60
    with prometheus_of(places(served), tmp_path) as prometheus:
        while silent and time.monotonic() < deadline:
            silent = {name: query for name, query in silent.items() if not ask(prometheus, query)}
            time.sleep(0.2)
    assert [*silent] == []


def test_a_port_in_use_is_told_before_ray_starts(served: Served) -> None:
    port = served.address.rpartition(":")[2]
    refused = run("serve", "--run", served.folder, "--serving.port", port, code=2)
    assert refused.stderr.startswith("error: serving.port: cannot listen on 127.0.0.1") and not refused.stdout


def test_a_second_one_is_refused_and_the_first_one_stays(served: Served) -> None:
    """On the same cluster, and on another port: neither does it take the place, nor does its end end the first."""
    (port,) = served.home.glob("ray/session_latest/gcs_server_port_*")
    cluster = {"RAY_ADDRESS": f"127.0.0.1:{port.read_text().strip()}", "RAY_AUTH_MODE": "token"}
    ended = run(
        "serve",
        "--run",
        served.folder,
        "--serving.replicas.cpus",
        "0.1",
        code=2,
        RAY_TMPDIR=str(served.home),
        RAY_AUTH_TOKEN=TOKEN,
        **cluster,
    )
    assert "Ray Serve has an application already (synood)" in ended.stderr and ended.stderr.startswith("error: ")
    assert httpx.get(f"{served.address}/healthz", timeout=60).json() == {"status": "ok"}


def test_the_configuration_of_the_rayservice_brings_up_the_same(served: Served) -> None:
    """As KubeRay's operator sends it to Serve: another run, name and address, and so few CPUs that it fits here."""
    config = yaml.safe_load(yaml.safe_load(RAY_SERVICE.read_text())["spec"]["serveConfigV2"])
    (application,) = config["applications"]
    application |= {"name": "configured", "route_prefix": "/configured"}
    application["args"]["run"] = served.folder
    application["args"]["serving"]["replicas"]["cpus"] = 0.1
    config["http_options"] |= {"host": "127.0.0.1", "port": int(served.address.rpartition(":")[2])}
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=served.dashboard, headers=bearer, timeout=60) as dashboard:
        deployed = dashboard.put("/api/serve/applications/", json=config)
        assert deployed.status_code == 200, deployed.text
        deadline = time.monotonic() + 240
        while (found := _configured(dashboard)).get("status") != "RUNNING":
            assert found.get("status") != "DEPLOY_FAILED" and time.monotonic() < deadline, found
            time.sleep(0.3)
    (deployment,) = found["deployments"].values()
    scaling = deployment["deployment_config"]["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 4)
    answer = httpx.post(f"{served.address}/configured/score", content=served.images[1], headers=PNG, timeout=60)
    assert answer.json()["score"] == pytest.approx(served.detector(served.images[1]).score.item(), abs=1e-5)
    about = httpx.get(f"{served.address}/configured/", timeout=60).json()
    assert about["limits"]["rate"] == application["args"]["serving"]["rate"] == 50


def _configured(dashboard: httpx.Client) -> dict[str, Any]:
    found = dashboard.get("/api/serve/applications/").json()["applications"]
    return found.get("configured", {})  # type: ignore[no-any-return]


def test_sigterm_ends_it(served: Served) -> None:
    served.process.send_signal(signal.SIGTERM)
    out, err = served.process.communicate(timeout=60)
    assert served.process.returncode == 130, out + err
    assert "interrupted" in err and "synood serve --run" in err
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{served.address}/healthz")
