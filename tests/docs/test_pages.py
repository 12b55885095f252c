"""The pages say what is there: every module is listed, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.module_list import PAGE, ROOT, about, page

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "synood_ray" / "mini" / "README.md"])


def test_the_architecture_page_lists_every_module() -> None:
    assert PAGE.read_text() == page(), "run python -m tools.module_list"


def test_every_module_says_what_it_is() -> None:
    assert [str(path) for path in (ROOT / "synood_ray").rglob("*.py") if not about(path)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert [target for target in targets if not (path.parent / target).exists()] == []
