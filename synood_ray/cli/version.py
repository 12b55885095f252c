"""synood version: what is installed."""

from __future__ import annotations

import platform

from synood_ray import __version__
from synood_ray.cli.command import Arguments, Command


def run(arguments: Arguments) -> int:
    from synood_ray.storage.record import package_versions

    print(f"synood_ray {__version__}")
    print(f"Python {platform.python_version()}, {platform.platform()}")
    print(", ".join(f"{name} {found}" for name, found in package_versions().items() if name != "synood_ray"))
    return 0


COMMAND = Command("version", "Print the version, and those of the packages that matter.", run, options={})
