"""The miniature world: real small images and models that are really trained (see README.md here)."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent


def data_path(name: str) -> Path:
    """Path of a bundled data file, such as ``id_test.parquet`` or ``words.txt``."""
    return ROOT / "data" / name


def model_path(name: str) -> Path:
    """Directory of a bundled model: ``clip``, ``inpainting``, ``mllm``, ``judge`` or ``referee``."""
    return ROOT / "models" / name
