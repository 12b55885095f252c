"""What a path in the settings points to: ``mini://…`` is the bundled miniature world, the rest is itself."""

from __future__ import annotations

from pathlib import Path

MINI = "mini://"


def resolve(location: str) -> str:
    """Turn ``mini://data/id_train.parquet`` into a path of this installation; return anything else unchanged."""
    if not location.startswith(MINI):
        return location
    return str(Path(__file__).parent / "mini" / location.removeprefix(MINI))


def is_folder(location: str) -> bool:
    """Whether a model is named by a local folder rather than by a hub id or an architecture."""
    return Path(resolve(location)).is_dir()
