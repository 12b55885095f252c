"""The package as an import: light until something heavy is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "vllm", "diffusers", "transformers", "open_clip")


@pytest.mark.parametrize(
    "statement", ["import synood_ray", "from synood_ray import Detector", "import synood_ray.cli.main"]
)
def test_imports_are_light(statement: str) -> None:
    code = f"{statement}; import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_torchvision_can_be_imported_beside_this_torch() -> None:
    code = "import torch, torchvision.transforms, torchvision.models; print(torchvision.__version__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).returncode == 0
