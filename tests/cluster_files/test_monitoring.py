"""Dashboard and alerts ask only for what is exported: docs/operating/metrics.md and serving.md have the tables."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from synood_ray.farm.metrics import TABLE, Metric
from synood_ray.serving import metrics as serving

CLUSTER = Path(__file__).parents[2] / "cluster"
ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
OURS = {**TABLE, **serving.TABLE}
EXPORTED = {f"ray_{name}{end}": metric for name, metric in OURS.items() for end in ENDINGS[metric.kind]}
EXPORTED |= {  # by Ray Serve, which tests/serving/test_real.py scrapes
    "ray_serve_num_http_error_requests_total": Metric("counter", ("application", "error_code"), ""),
    "ray_serve_num_ongoing_requests_at_replicas": Metric("gauge", ("application",), ""),
    "ray_serve_deployment_queued_queries": Metric("gauge", ("application",), ""),
}
RAYS_OWN = {"SessionName", "run", "le"}
DASHBOARD = json.loads((CLUSTER / "grafana" / "synood.json").read_text())
ALERTS = yaml.safe_load((CLUSTER / "prometheus" / "alerts.yml").read_text())


def queries() -> dict[str, str]:
    """Every PromQL expression, by where it stands; Grafana's variables with a value."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$SessionName", ".*").replace("$run", ".*")
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())  # a row has none
    }
    return found | {rule["alert"]: rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]}


def of_service() -> dict[str, str]:
    return {name: query for name, query in queries().items() if re.search("ray_(synood_serving|serve)_", query)}


def of_farm() -> dict[str, str]:
    return {name: query for name, query in queries().items() if name not in of_service()}


@pytest.mark.parametrize("name", queries())
def test_query_names_metrics_and_labels_that_exist(name: str) -> None:
    query = queries()[name]
    names = re.findall(r"[a-z_]*(?:synood|serve)_[a-z_]+", query)
    assert names and set(names) <= set(EXPORTED)
    for metric, selected in re.findall(r"(ray_(?:synood|serve)_[a-z_]+)\{([^}]*)\}", query):
        labels = {*EXPORTED[metric].labels, *RAYS_OWN}
        assert set(re.findall(r"(\w+)\s*(?:=~|!=|=|!~)", selected)) <= labels
        for label, values in re.findall(r'(state|outcome|cause|stage)=~?"([a-z| ]+)"', selected):
            assert label in labels
            assert all(value in f"{EXPORTED[metric].about} describe sample" for value in values.split("|"))
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
    assert grouped <= {*RAYS_OWN, *(label for name in names for label in EXPORTED[name].labels)}


def test_every_metric_is_looked_at() -> None:
    asked = set(re.findall(r"ray_synood_[a-z_]+", " ".join(queries().values())))
    assert [name for name, metric in OURS.items() if not {f"ray_{name}{e}" for e in ENDINGS[metric.kind]} & asked] == []


def test_dashboard_takes_its_source_from_a_variable() -> None:
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "SessionName", "run"]
    shown = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in shown} == {"${datasource}"}
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


HEALTHY = {
    'ray_synood_units{run="r", stage="sample", state="waiting"}': "500-1x240",
    'ray_synood_units{run="r", stage="sample", state="quarantined"}': "0x240",
    'ray_synood_unit_seconds_count{run="r", stage="sample"}': "0+1x240",
    'ray_synood_workers{run="r", role="sampler", state="waiting"}': "2 2 2 2 0x236",
    'ray_synood_waited_seconds_total{run="r", what="place"}': "0 15 30 45 60x236",
    'ray_synood_waited_seconds_total{run="r", what="store"}': "0x100 6x140",
    'ray_synood_failed_attempts_total{run="r", stage="sample", cause="ValueError"}': "0x100 3x140",
    'ray_synood_lost_workers_total{run="r", role="sampler", cause="preempted"}': "0+1x240",
    'ray_synood_lost_workers_total{run="r", role="sampler", cause="out of memory"}': "0x100 1x140",
    'ray_synood_samples_total{run="r", outcome="accepted"}': "0+20x240",
    'ray_synood_samples_total{run="r", outcome="failed"}': "0+1x240",
}
"""Series of an hour, a value every 15 s, in promtool's notation: a run as it should be, with the odd mishap."""

SICK = {
    "SynoodNothingDone": {'ray_synood_unit_seconds_count{run="r", stage="sample"}': "0+1x30 30x210"},
    "SynoodWorkersWait": {'ray_synood_workers{run="r", role="sampler", state="waiting"}': "2x240"},
    "SynoodStoreAway": {'ray_synood_waited_seconds_total{run="r", what="store"}': "0x200 0+15x40"},
    "SynoodServerAway": {'ray_synood_waited_seconds_total{run="r", what="server"}': "0x200 0+15x40"},
    "SynoodQuarantine": {'ray_synood_units{run="r", stage="sample", state="quarantined"}': "0x200 1x40"},
    "SynoodAttemptsFail": {
        'ray_synood_failed_attempts_total{run="r", stage="sample", cause="ValueError"}': "0x200 0+1x40"
    },
    "SynoodOutOfMemory": {
        'ray_synood_lost_workers_total{run="r", role="sampler", cause="out of memory"}': "0x200 0+1x40"
    },
    "SynoodWorkersLost": {'ray_synood_lost_workers_total{run="r", role="sampler", cause="crash"}': "0x200 0+1x40"},
    "SynoodSamplesFail": {'ray_synood_samples_total{run="r", outcome="failed"}': "0x150 0+10x90"},
}
"""What is different where an alert must fire by the end of that hour."""


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    assert SICK.keys() == {rule["alert"] for group in ALERTS["groups"] for rule in group["rules"]}

    def case(name: str, series: dict[str, str], firing: list[dict[str, Any]]) -> dict[str, Any]:
        inputs = [{"series": one, "values": values} for one, values in (HEALTHY | series).items()]
        alerts = f'count by (alertname) (ALERTS{{alertstate="firing", alertname=~"{name}"}})'
        asked = [{"expr": alerts, "eval_time": "1h", "exp_samples": firing}]
        return {"name": name, "interval": "15s", "input_series": inputs, "promql_expr_test": asked}

    fired = [case(name, s, [{"labels": f'{{alertname="{name}"}}', "value": 1}]) for name, s in SICK.items()]
    tests = [case(".*", {}, []), *fired]
    rules = str(CLUSTER / "prometheus" / "alerts.yml")
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump({"rule_files": [rules], "evaluation_interval": "15s", "tests": tests}))
    done = subprocess.run([promtool(), "test", "rules", str(path)], capture_output=True, text=True)
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
