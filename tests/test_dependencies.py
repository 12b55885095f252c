"""Every import is a declared dependency, the tested versions are within the ranges, and the base is enough for a
detector."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from synood_ray.errors import UserError
from synood_ray.extras import EXTRAS, missing_extra
from tests.installing import JUDGE, save_mini_detector

tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALLED = packages_distributions()
OURS = {"synood_ray", "benchmarks", "tools", "tests"}
IN_NO_INDEX = {"openood"}
"""Whoever uses the adapter for it has installed it from its repository."""


def declared(*extras: str) -> dict[str, Requirement]:
    """The distributions of the base and of extras, by name; an extra within an extra is not followed."""
    texts = [*PROJECT["dependencies"], *(one for extra in extras for one in PROJECT["optional-dependencies"][extra])]
    found = {canonicalize_name(one.name): one for one in map(Requirement, texts)}
    found.pop("synood-ray", None)
    return found


@cache
def imported(*folders: str) -> dict[str, str]:
    """Packages of others that the modules in folders import, each with a file that does."""
    found: dict[str, str] = {}
    for path in (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            packages = {name.partition(".")[0] for name in names}
            found |= dict.fromkeys(packages - OURS - IN_NO_INDEX - sys.stdlib_module_names, str(path.relative_to(ROOT)))
    return found


@cache
def distributions(package: str) -> set[str]:
    """Whose package it is, and its own name, in case it is not installed here."""
    return {canonicalize_name(name) for name in (package, *INSTALLED.get(package, []))}


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (("synood_ray", "jobs"), ("farm", "cpu", "pytorch-ood")),
        (("benchmarks", "tools", "tests"), ("farm", "cpu", "dev", "mini")),
    ],
)
def test_every_import_is_declared(folders: tuple[str, ...], extras: tuple[str, ...]) -> None:
    known = declared(*extras).keys()
    missing = {package: file for package, file in imported(*folders).items() if not distributions(package) & known}
    assert not missing


def test_every_dependency_of_the_package_is_imported() -> None:
    used = {name for package in imported("synood_ray") for name in distributions(package)}
    # diffusers loads large models with the one, starlette reads forms with the other
    assert declared("farm", "cpu", "pytorch-ood").keys() - used == {"accelerate", "python-multipart"}


def test_missing_packages_are_told_by_their_extra() -> None:
    base = declared().keys()
    needed = {package for package in imported("synood_ray") if not distributions(package) & base}
    assert {package for packages in EXTRAS.values() for package in packages} == needed | {"accelerate"}
    for extra, packages in EXTRAS.items():
        for package in packages:
            assert distributions(package) & declared(extra).keys()
            told = missing_extra(ModuleNotFoundError(name=f"{package}.part"))
            assert isinstance(told, UserError) and f"pip install 'synood_ray[{extra}]'" in str(told)
    assert missing_extra(ModuleNotFoundError(name="synood_ray.part")) is None


def test_what_is_tested_is_within_the_ranges() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(len(pin.specifier) == 1 and next(iter(pin.specifier)).operator == "==" for pin in pins)
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    for name, wanted in declared("farm", "cpu", "gpu", "dev").items():
        assert name in versions, f"{name} has no version in constraints.txt"
        assert wanted.specifier.contains(versions[name]), wanted


def test_a_detector_needs_no_extra(tmp_path: Path) -> None:
    """As in an environment with the base alone; the real one is made by test_installation."""
    extras = [package for packages in EXTRAS.values() for package in packages]
    script = f"import sys; sys.modules.update(dict.fromkeys({extras!r}))\n{JUDGE}"
    command = [sys.executable, "-c", script, *save_mini_detector(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("score 0.")
