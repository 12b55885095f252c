"""Reads what `synood_ray.report.packing` writes, as the page's script does."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
from typing import Any

from synood_ray.report.packing import OUTCOMES


def unpacked(text: str) -> list[dict[str, Any]]:
    """A dict a sample."""
    data = json.loads(gzip.decompress(base64.b64decode(text)))
    columns = data["columns"]

    def word(name: str, i: int) -> Any:
        return columns[name]["words"][columns[name]["of"][i]]

    return [
        {
            "key": f"{key:08d}",
            "class": data["classes"][columns["label"][i]],
            "outcome": OUTCOMES[columns["outcome"][i]],
            "reason": word("reject_reason", i),
            "margin": columns["margin"][i] / 100,
            "trace": [value / 100 for value in columns["trace"][i]],
            "what": word("what", i),
            "prompt": word("prompt", i),
            "source_key": word("source_key", i),
        }
        for i, key in enumerate(itertools.accumulate(columns["key"]))
    ]
