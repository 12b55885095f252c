"""Does what a section of docs/extending.md says, to a copy of the package, and runs code with the copy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "synood_ray"
_PLACE = r"# (?P<path>\S+?)(?:, (?P<where>below|above): (?P<line>[^\n]+))?"
_BLOCK = re.compile(rf"^```python\n{_PLACE}\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def follow(section: str, folder: Path) -> Path:
    """Copy the package into the folder and apply every code block of the section, in order; returns the folder."""
    shutil.copytree(ROOT / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "mini"))
    (folder / PACKAGE / "mini").symlink_to(ROOT / PACKAGE / "mini")
    text = (ROOT / "docs" / "extending.md").read_text()
    (part,) = [part for part in re.split(r"^## ", text, flags=re.M) if part.startswith(f"{section}\n")]
    blocks = list(_BLOCK.finditer(part))
    assert len(blocks) == part.count("```python\n"), "a block of the page does not name its file"
    for block in blocks:
        path = folder / block["path"]
        assert path.exists() == bool(block["where"]), f"{block['path']}: exists already, or is not there to be changed"
        path.write_text(_insert(path.read_text(), block) if block["where"] else block["code"])
    return folder


def _insert(text: str, block: re.Match[str]) -> str:
    anchor, code = f"{block['line']}\n", block["code"]
    assert text.count(anchor) == 1, f"{block['path']} has the line that the page quotes {text.count(anchor)} times"
    return text.replace(anchor, anchor + code if block["where"] == "below" else code + anchor)


def run(folder: Path, *arguments: str) -> str:
    """What Python prints with the copy in the package's place; the tests can be imported too."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "COLUMNS": "100"}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout
