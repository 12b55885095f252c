"""synood_ray: near-boundary out-of-distribution images at scale, and a CLIP that learns from them."""

from __future__ import annotations

from typing import Any

__version__ = "0.2.0"
__all__ = ["Detector", "__version__"]


def __getattr__(name: str) -> Any:
    # Detector needs torch; `import synood_ray` must not.
    if name == "Detector":
        from synood_ray.detection.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
