"""The table of odd input: what people reported about tools that do this job, and what this one does with it.

A module `test_*.py` here is a section of it, and each of its rows is a test. ``python -m tests.reports`` writes the
page.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "what-it-does-with-odd-input.md"

HEAD = """# What it does with odd input

Input as people have it, what happens with it, and where it was reported: of tools that do a part of this job, in their
public issues, or of this one in a trial. Each row is a test in `tests/reports`, which this page is written from
(`python -m tests.reports`).

"Refused" is one line that names the setting or file and the cure, exit code 2, and nothing is written. "Skipped" is an
image that is left out with its reason; "failed" is a sample without a picture, with its reason, which `--retry-failed`
makes again. Exit codes are in the [README](../README.md).
"""


@dataclass(frozen=True)
class Report:
    """source: ``owner/repository#number``, or "trial"; given: what is fed; right: what happens."""

    source: str
    given: str
    right: str


TABLE: dict[str, list[Report]] = {}
"""Module of tests -> its rows, in order."""

Test = Callable[..., Any]


def reported(source: str, given: str, right: str) -> Callable[[Test], Test]:
    """A test that is one row."""

    def mark(test: Test) -> Test:
        TABLE.setdefault(test.__module__, []).append(Report(source, given, right))
        return test

    return mark


def rows(names: str, *cases: tuple[Any, ...]) -> Callable[[Test], Test]:
    """A test of several rows: (source, given, right, and a value for each of ``names``)."""

    def mark(test: Test) -> Test:
        TABLE.setdefault(test.__module__, []).extend(Report(*case[:3]) for case in cases)
        values = [case[3:] if len(case) > 4 else case[3] for case in cases]
        return pytest.mark.parametrize(names, values, ids=[case[1] for case in cases])(test)

    return mark


def page() -> str:
    """The page as it should be."""
    parts = [HEAD]
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(f"{__package__}.{path.stem}")
        found = TABLE.get(module.__name__)
        if found:
            parts += [
                f"\n## {(module.__doc__ or '').strip().rstrip('.')}\n",
                "| input | what happens | reported |",
                "|---|---|---|",
            ]
            parts += [f"| {_cell(one.given)} | {_cell(one.right)} | {_link(one.source)} |" for one in found]
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _link(source: str) -> str:
    named = re.fullmatch(r"([\w.-]+/[\w.-]+)#(\d+)", source)
    return f"[{source}](https://github.com/{named[1]}/issues/{named[2]})" if named else source
