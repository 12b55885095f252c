"""What a path in the settings points to, and how an address is shown: ``mini://…`` is the bundled miniature world."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

MINI = "mini://"


def resolve(location: str) -> str:
    """Turn ``mini://data/id_train.parquet`` into a path of this installation, and ``~/x`` into one of the home folder;
    return anything else unchanged."""
    if location.startswith("~"):
        return str(Path(location).expanduser())
    if not location.startswith(MINI):
        return location
    return str(Path(__file__).parent / "mini" / location.removeprefix(MINI))


def is_folder(location: str) -> bool:
    """Whether a model is named by a local folder rather than by a hub id or an architecture."""
    return Path(resolve(location)).is_dir()


def is_hub_id(model: str) -> bool:
    """Whether what is no folder that is there can be ``owner/name`` of the Hugging Face Hub, not a folder misspelt."""
    return not model.startswith((MINI, "/", ".", "~")) and model.count("/") == 1


def run_name(output: str) -> str:
    """What a run is called where people see it: the last part of its location."""
    return output.rstrip("/").rpartition("/")[2] or "run"


_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY = re.compile(r"(https?://[^?\s'\"<>]*)\?[^\s'\"<>]*")


def without_credentials(text: str) -> str:
    """The text, in whose URLs ``user:password@`` and ``?query`` (a key, a signature) are left out.

    Whatever is stored, shown or raised goes through here if a URL may be in it.
    """
    return _QUERY.sub(r"\1", _USERINFO.sub("", text))


def public(value: Any) -> Any:
    """JSON values `without_credentials`: a run is published with its settings."""
    if isinstance(value, dict):
        return {name: public(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [public(entry) for entry in value]
    return without_credentials(value) if isinstance(value, str) else value
