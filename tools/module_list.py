"""Write the list of modules in docs/architecture.md from the modules' own first sentences.

python -m tools.module_list
"""

from __future__ import annotations

import ast
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
MARK = "<!-- modules -->\n"


def about(module: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    return " ".join((ast.get_docstring(ast.parse(module.read_text())) or "").split("\n\n")[0].split())


def module_list(package: Path) -> str:
    """A Markdown section per folder of the package, with a line per module."""
    modules = sorted(package.rglob("*.py"), key=lambda path: (path.parent, path.name))
    lines = []
    for folder, found in groupby(modules, key=lambda path: path.parent):
        lines += [f"### `{folder.relative_to(package.parent)}/`", ""]
        listed = []
        for module in found:
            if module.name == "__init__.py":
                lines += [about(module), ""]
            else:
                listed.append(f"- `{module.name}`: {about(module)}")
        lines += [*listed, ""] if listed else []
    return "\n".join(lines).rstrip() + "\n"


def page() -> str:
    """The page as it should be."""
    return PAGE.read_text().partition(MARK)[0] + MARK + "\n" + module_list(ROOT / "synood_ray")


if __name__ == "__main__":
    PAGE.write_text(page())
