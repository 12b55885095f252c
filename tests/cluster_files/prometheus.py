"""A real Prometheus with the repository's configuration, for tests that ask what dashboard and alerts ask."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

PROMETHEUS = Path(__file__).parents[2] / "cluster" / "prometheus"


@contextmanager
def prometheus_of(places: Sequence[str], folder: Path) -> Iterator[str]:
    """Address of a Prometheus that scrapes these places (host:port) every half second. Its files go to the folder."""
    (folder / "targets.json").write_text(json.dumps([{"targets": list(places)}]))
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
    config["scrape_configs"][0]["file_sd_configs"][0]["files"] = [str(folder / "targets.json")]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address={address}"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait()


def ask(address: str, query: str) -> list[Any]:
    """What Prometheus answers to a query, one entry a series."""
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]["result"]  # type: ignore[no-any-return]
    except OSError:  # it is starting
        return []


def sides(query: str) -> list[str]:
    """What an alert compares, without the thresholds that a healthy run does not reach; a panel's query as it is."""
    parts = re.split(r"\s+unless\s+|\s+> (?:[\d.]+(?: \* )?)?", query)
    others = {'cause="out of memory"': 'cause=~".+"', 'what="server"': 'what=~".+"'}  # which the runs do not come to
    found = [part.strip() for part in parts if part.strip()]
    for one, any_of_them in others.items():
        found = [part.replace(one, any_of_them) for part in found]
    return found
