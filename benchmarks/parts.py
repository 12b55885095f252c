"""What a long benchmark has measured so far, a file each part: stopped at any time it goes on where it was.

Parts belong to what decides them: settings, models, the code, the data. After any change all are measured again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np

from benchmarks.teaching.images import PACKAGE, made_of
from synood_ray.config.settings import Settings

BUILD = PACKAGE.parent / "build"
CODE = PACKAGE.parent / "benchmarks"

Part = dict[tuple[str, ...], np.ndarray]
"""Values by names."""


class Parts:
    """The parts of one benchmark: settings, what else it was asked for, and code say which."""

    def __init__(self, benchmark: str, settings: Settings, *asked: object) -> None:
        digest = hashlib.sha256(f"{settings.model_dump_json()} {asked} {made_of(settings)}".encode())
        package = (path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc")
        for path in sorted((*package, *CODE.rglob("*.py"))):
            digest.update(f"{path.relative_to(PACKAGE.parent)} ".encode() + hashlib.sha256(path.read_bytes()).digest())
        self.folder = BUILD / benchmark / digest.hexdigest()[:12]

    @property
    def begun(self) -> bool:
        """Whether any part is there."""
        return self.folder.is_dir()

    def part(self, name: str, measure: Callable[[], Part]) -> Part:
        """What `measure` returns under that name: measured, or read if it was measured before."""
        from safetensors.numpy import load_file, save_file

        path = self.folder / f"{name.replace(' ', '-')}.safetensors"
        if not path.is_file():
            found = {json.dumps(key): np.ascontiguousarray(values) for key, values in measure().items()}
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part")
            save_file(found, partial)
            partial.replace(path)
        return {tuple(json.loads(key)): values for key, values in load_file(path).items()}
