"""What becomes of the settings on Ray Serve, and what is found wrong before anything starts."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from synood_ray.cli.arguments import parse
from synood_ray.cli.serve import COMMAND
from synood_ray.config.serving import ServingSettings
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.farm.placement import Node, check, replica_need
from synood_ray.serving.app import Arguments, build
from synood_ray.serving.metrics import TABLE
from synood_ray.serving.running import _more, check_port, find_detector
from synood_ray.serving.service import load_detector
from tests.installing import save_mini_detector

PAGE = Path(__file__).parents[2] / "docs" / "operating" / "serving.md"


def deployment(**serving: Any) -> Any:
    return build({"run": "runs/demo", "serving": serving})._bound_deployment


def test_replicas_and_requests_are_as_set() -> None:
    replicas = {"min": 2, "max": 2, "cpus": 3, "gpus": 0.5, "resources": {"fast": 1}, "labels": {"market": "spot"}}
    found = deployment(concurrent=7, queue=9, replicas=replicas)
    assert (found.max_ongoing_requests, found.max_queued_requests, found.num_replicas) == (7, 9, 2)
    actor = found.ray_actor_options
    assert (actor["num_cpus"], actor["num_gpus"], actor["resources"]) == (3, 0.5, {"fast": 1})
    assert actor["label_selector"] == {"market": "spot"}
    scaling = deployment(concurrent=8, replicas={"min": 0, "max": 4})._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (0, 4, 4)


def test_arguments_that_are_none_are_refused() -> None:
    for args in ({}, {"run": "a", "serving": {"prot": 1}}, {"run": "a", "wobble": 1}):
        with pytest.raises(ValidationError):
            build(args)


def test_settings_that_do_not_go_together() -> None:
    for options, named in (
        (("--serving.replicas.min", "3"), "min (3) is larger than max (1)"),
        (("--serving.rate", "5", "--serving.burst", "10"), "burst (10) is less than max_images (64)"),
    ):
        with pytest.raises(UserError) as refused:
            parse(COMMAND, ["--run", "runs/demo", *options]).over({})
        assert named in str(refused.value)
    with pytest.raises(UserError, match="serving can be set"):
        parse(COMMAND, ["--run", "runs/demo", "--sampling.rounds", "3"])


def test_serving_is_no_matter_of_a_runs_results() -> None:
    from synood_ray.config.fingerprint import fingerprint

    other = Settings(serving=ServingSettings(port=9999, recall=0.9))
    assert fingerprint(Settings(), "a") == fingerprint(other, "a")


def test_replicas_without_a_place_are_refused_by_their_setting() -> None:
    need = replica_need(ServingSettings().replicas)
    check([need], [Node({"CPU": 1.0})])
    with pytest.raises(UserError, match=r"serving\.replicas.*serving\.replicas\.min"):
        check([need, need], [Node({"CPU": 1.0})])
    with pytest.raises(UserError, match="a replica needs 1 GPU, 1 CPU"):
        check([replica_need(ServingSettings.model_validate({"replicas": {"gpus": 1}}).replicas)], [Node({"CPU": 4.0})])


def test_ports_and_hosts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"serving\.port: cannot listen on 127\.0\.0\.1:{port} \(Address already"):
            check_port(ServingSettings(port=port))
    check_port(ServingSettings(port=port))
    with pytest.raises(UserError, match=r"serving\.host: there is no address 'no\.such\.host\.invalid'"):
        check_port(ServingSettings(host="no.such.host.invalid"))
    with pytest.raises(UserError, match=r"serving\.port: cannot listen on 192\.0\.2\.1"):
        check_port(ServingSettings(host="192.0.2.1"))


def test_the_detector_is_looked_for_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing here"):
        find_detector(str(tmp_path))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="fine-tune first"):
        find_detector(str(tmp_path))
    folder, _ = save_mini_detector(tmp_path)
    assert find_detector(folder) == find_detector(str(tmp_path)) == {}  # a detector's folder, and one that holds it
    assert find_detector(f"hf-hub:{folder}") == {}
    with pytest.raises(UserError, match="a/b/c: no name on the Hub"):
        find_detector("hf-hub:a/b/c")
    stored = find_detector(str(Path(__file__).parents[1] / "old_runs" / "0.1.0"))
    assert parse(COMMAND, ["--run", "old", "--serving.port", "81"]).over(stored).serving == ServingSettings(port=81)
    for run in (folder, f"hf-hub:{folder}"):  # the Hub's own loader takes a folder for a repository too
        assert load_detector(run, ServingSettings()).description.class_names == ["cat", "dog"]
    with pytest.raises(UserError, match=r"serving\.recall: this detector has not kept"):
        load_detector(folder, ServingSettings(recall=0.9))


def test_the_page_has_every_metric() -> None:
    text = PAGE.read_text()
    for name, metric in TABLE.items():
        shown = f"ray_{name}_total" if metric.kind == "counter" else f"ray_{name}"
        assert f"| `{shown}` | {metric.kind} | {', '.join(metric.labels)} | {metric.about} |" in text


def test_arguments_survive_json() -> None:
    one = Arguments(run="a", serving=ServingSettings(recall=0.9))
    assert Arguments.model_validate_json(one.model_dump_json()) == one


def test_what_serve_says_about_a_replica_is_a_line_with_its_cause() -> None:
    told = (
        "A replica failed to start with exception. Retrying 2 more time(s). Error:\nTraceback:\n  a\nOSError: no disk\n"
    )
    assert _more(told) == (
        "; A replica failed to start with exception. Retrying 2 more time(s). Error: OSError: no disk"
    )
    assert _more("Deploying.") == "; Deploying." and _more("\n") == ""
