"""Dashboard and alerts ask only for what is exported: docs/operating/metrics.md is the table."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from synood_ray.farm.metrics import TABLE

CLUSTER = Path(__file__).parents[2] / "cluster"
ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
EXPORTED = {f"ray_{name}{end}": metric for name, metric in TABLE.items() for end in ENDINGS[metric.kind]}
RAYS_OWN = {"SessionName", "run", "le"}
DASHBOARD = json.loads((CLUSTER / "grafana" / "synood.json").read_text())
ALERTS = yaml.safe_load((CLUSTER / "prometheus" / "alerts.yml").read_text())


def queries() -> dict[str, str]:
    """Every PromQL expression, by where it stands; Grafana's variables with a value."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$SessionName", ".*").replace("$run", ".*")
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    }
    return found | {rule["alert"]: rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]}


@pytest.mark.parametrize("name", queries())
def test_query_names_metrics_and_labels_that_exist(name: str) -> None:
    query = queries()[name]
    names = re.findall(r"[a-z_]*synood_[a-z_]+", query)
    assert names and set(names) <= set(EXPORTED)
    for metric, selected in re.findall(r"(ray_synood_[a-z_]+)\{([^}]*)\}", query):
        labels = {*EXPORTED[metric].labels, *RAYS_OWN}
        assert set(re.findall(r"(\w+)\s*(?:=~|!=|=|!~)", selected)) <= labels
        for label, values in re.findall(r'(state|outcome|cause|stage)=~?"([a-z| ]+)"', selected):
            assert label in labels
            assert all(value in f"{EXPORTED[metric].about} describe sample" for value in values.split("|"))
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
    assert grouped <= {*RAYS_OWN, *(label for name in names for label in EXPORTED[name].labels)}


def test_every_metric_is_looked_at() -> None:
    asked = set(re.findall(r"ray_synood_[a-z_]+", " ".join(queries().values())))
    assert [
        name for name, metric in TABLE.items() if not {f"ray_{name}{e}" for e in ENDINGS[metric.kind]} & asked
    ] == []


def test_dashboard_takes_its_source_from_a_variable() -> None:
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "SessionName", "run"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {"${datasource}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_alerts_say_what_to_do() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert all(rule["annotations"]["summary"] and rule["annotations"]["cure"] for rule in rules)
    labels = [set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) for rule in rules]
    grouped = [set(re.split(r",\s*", re.findall(r"by \(([^)]*)\)", rule["expr"])[0])) for rule in rules]
    assert all(used <= kept for used, kept in zip(labels, grouped, strict=True))


def promtool() -> str:
    return shutil.which("promtool") or pytest.skip("promtool is not installed (Debian package prometheus)")


def test_prometheus_reads_its_files() -> None:
    command: list[Any] = [promtool(), "check", "config", "--syntax-only", CLUSTER / "prometheus" / "prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        [promtool(), "check", "rules", CLUSTER / "prometheus" / "alerts.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_queries_are_promql(tmp_path: Path) -> None:
    """The dashboard's, as recording rules: promtool reads no dashboard."""
    rules = [
        {"record": f"query_{i}", "expr": query.replace("$__all", ".*")} for i, query in enumerate(queries().values())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([promtool(), "check", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pods_are_scraped_where_ray_serves_metrics() -> None:
    monitor = yaml.safe_load((CLUSTER / "prometheus" / "podmonitor.yaml").read_text())
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    base = yaml.safe_load((CLUSTER / "kuberay" / "base" / "synthesize.yaml").read_text())
    head = base["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert endpoint["port"] in [port["name"] for port in head["ports"]]
