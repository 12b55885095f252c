"""Manifests of cluster/kuberay as Kubernetes would get them: against KubeRay's schemas, and what KubeRay refuses."""

from __future__ import annotations

import copy
import functools
import importlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from synood_ray.cli.layers import load_file
from synood_ray.config.settings import Settings
from tests.cluster_files.kustomize import build

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "cluster" / "kuberay"
OVERLAYS = sorted(path.parent for path in KUBERAY.glob("overlays/*/kustomization.yaml"))
PLACES = (ROOT.parent / "shared" / "kuberay", ROOT.parents[1] / "shared" / "kuberay")


@functools.cache
def schema(kind: str) -> jsonschema.Draft202012Validator:
    """KubeRay's schema of a kind's spec, closed: an unknown key, which the API server would drop in silence, is an
    error."""
    for place in PLACES:
        path = place / f"{kind.lower()}.v1.schema.json"
        if path.exists():
            found = closed(json.loads(path.read_text()))["properties"]["spec"]
            jsonschema.Draft202012Validator.check_schema(found)
            return jsonschema.Draft202012Validator(found)
    pytest.skip("KubeRay's schemas are not beside this checkout (../shared/kuberay)")


def closed(node: Any) -> Any:
    if isinstance(node, list):
        return [closed(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    node = {name: closed(value) for name, value in node.items()}
    if node.get("x-kubernetes-int-or-string"):
        node["type"] = ["integer", "string"]
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        free = node.get("x-kubernetes-preserve-unknown-fields") or node["properties"].keys() <= {"apiVersion", "kind"}
        if not free and "additionalProperties" not in node:
            node["additionalProperties"] = False
    return node


def documents() -> dict[str, dict[str, Any]]:
    """Every document of Ray's, by where it comes from."""
    built = {folder.name: document for folder in OVERLAYS for document in build(folder) if kind(document)}
    alone = {name: yaml.safe_load((KUBERAY / f"{name}.yaml").read_text()) for name in ("interactive", "service")}
    return {**built, **alone}


def kind(document: dict[str, Any]) -> bool:
    return str(document["apiVersion"]).startswith("ray.io/")


ALL = documents()


@pytest.mark.parametrize("name", ALL)
def test_manifest_has_no_unknown_or_mistyped_key(name: str) -> None:
    what, spec = ALL[name]["kind"], ALL[name]["spec"]
    if what == "RayService":  # has no schema here; its keys are few (ray-operator/apis/ray/v1/rayservice_types.go)
        assert spec.keys() == {"serveConfigV2", "rayClusterConfig"}
        what, spec = "RayCluster", spec["rayClusterConfig"]
    schema(what).validate(spec)


def test_an_unknown_key_is_an_error_wherever_it_stands() -> None:
    for path in ("", "rayClusterSpec", "rayClusterSpec.headGroupSpec", "rayClusterSpec.headGroupSpec.template.spec"):
        spec = copy.deepcopy(ALL["minimal-cpu"]["spec"])
        place = spec
        for part in filter(None, path.split(".")):
            place = place[part]
        place["shutdownAfterJobFinish"] = True
        with pytest.raises(jsonschema.ValidationError):
            schema("RayJob").validate(spec)


@pytest.mark.parametrize("name", ALL)
def test_what_kuberay_refuses_is_not_there(name: str) -> None:
    """Rules of its validation that no schema has (ray-operator/controllers/ray/utils/validation.go)."""
    spec = ALL[name]["spec"]
    rules = spec.get("deletionStrategy", {}).get("deletionRules", [])
    assert not (rules and spec.get("shutdownAfterJobFinishes")), "mutually exclusive"
    assert "DeleteWorkers" not in [rule["policy"] for rule in rules], "not with the autoscaler"
    if spec.get("suspend"):
        assert spec["shutdownAfterJobFinishes"]
    cluster = spec.get("rayClusterSpec", spec.get("rayClusterConfig", spec))
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"]
    assert cluster["enableInTreeAutoscaling"] and cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = cluster["workerGroupSpecs"]
    assert 0 < len(groups) <= 17
    assert len({group["groupName"] for group in groups}) == len(groups)
    for template in [cluster["headGroupSpec"]["template"], *(group["template"] for group in groups)]:
        assert template["spec"]["restartPolicy"] == "Never", "autoscaler v2"
        assert template["spec"]["serviceAccountName"] == "synood"
    assert all(group["minReplicas"] == 0 for group in groups)


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_what_is_mounted_is_there(folder: Path) -> None:
    built = build(folder)
    maps = {d["metadata"]["name"] for d in built if d["kind"] == "ConfigMap"}
    assert "ServiceAccount" in [d["kind"] for d in built]
    (job,) = [d for d in built if kind(d)]
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in head.get("volumes", [])}
    assert {v["configMap"]["name"] for v in volumes.values()} <= maps
    assert {mount["name"] for mount in head["containers"][0].get("volumeMounts", [])} == set(volumes)


def test_spot_comes_before_on_demand_and_both_fit_the_samplers() -> None:
    groups = {g["groupName"]: g for g in ALL["gpu-spot"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]}
    settings = Settings.model_validate(yaml.safe_load((KUBERAY / "overlays/gpu-spot/settings.yaml").read_text()))
    spot, fallback = groups["samplers-spot"], groups["samplers-on-demand"]
    assert spot["priority"] > fallback["priority"]
    for group, pool in ((spot, settings.farm.samplers), (fallback, settings.farm.samplers),
                        (groups["describers"], settings.farm.describers)):  # fmt: skip
        assert pool.labels.items() <= group["labels"].items()
        limits = group["template"]["spec"]["containers"][0]["resources"]
        assert pool.gpus <= int(limits["limits"]["nvidia.com/gpu"])
        assert pool.cpus <= int(limits["requests"]["cpu"])
        assert pool.max <= group["maxReplicas"]


def test_the_service_is_an_application_that_ray_serve_takes_and_a_replica_has_a_place() -> None:
    """Serve's own schema closes what it knows; the arguments are ours."""
    spec = ALL["service"]["spec"]
    config = ServeDeploySchema.model_validate(yaml.safe_load(spec["serveConfigV2"]))
    (application,) = config.applications
    module, _, builder = application.import_path.partition(":")
    found = getattr(importlib.import_module(module), builder)(application.args)._bound_deployment
    assert config.http_options.host == "0.0.0.0", "pods are reached by their own addresses"
    (group,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    assert found.ray_actor_options["num_cpus"] <= int(worker["resources"]["requests"]["cpu"])
    assert found._deployment_config.autoscaling_config.max_replicas <= group["maxReplicas"]
    ports = spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    assert {"containerPort": config.http_options.port, "name": "serve"} in ports


@pytest.mark.parametrize("path", sorted((ROOT / "cluster").rglob("settings.yaml")), ids=lambda path: path.parent.name)
def test_settings_are_settings(path: Path) -> None:
    load_file(path, str(path))
    Settings.model_validate(yaml.safe_load(path.read_text()))
