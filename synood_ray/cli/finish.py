"""Who is told that a run has ended: a command, or a web address, as `farm.on_finish` says."""

from __future__ import annotations

import http.client
import json
import shlex
import subprocess
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from synood_ray.errors import first_line
from synood_ray.locations import without_credentials

PATIENCE = 30.0
"""Seconds that the command or the server may take."""


def tell(hook: str, ended: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Give the news, a JSON object, to a web address (POST) or to a command (standard input).

    Whatever goes wrong is said in a line, and changes nothing: the run has ended as it has.
    """
    news = json.dumps(ended).encode()
    try:
        if hook.startswith(("http://", "https://")):
            request = urllib.request.Request(hook, news, {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=PATIENCE).close()
        else:
            subprocess.run(shlex.split(hook), input=news, timeout=PATIENCE, check=True)
    except (OSError, ValueError, IndexError, http.client.HTTPException, subprocess.SubprocessError) as error:
        shown = without_credentials(f"{hook}: {first_line(error)}")
        say(f"warning: farm.on_finish: {shown}")
