"""Derive wordnet.txt.gz, the bundled noun and adjective synonym sets, from WordNet's own data files.

    python -m tools.derive_wordnet [FOLDER]

FOLDER holds data.noun and data.adj of WordNet 3.0 (Debian: package wordnet-base, /usr/share/wordnet). One line a
synonym set: its kind (n or a, or l for a noun of the lexicographer files noun.animal and noun.food, which NegLabel
leaves out), a tab, its names by falling frequency, separated by ``|``. Glosses, relations and the
other parts of speech are left out. WordNet's licence is in LICENSE.wordnet.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).parents[1] / "synood_ray" / "negatives" / "wordnet.txt.gz"
LIVING = ("05", "13")  # noun.animal and noun.food, by lexnames(5wn)
_MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may stand, such as "galore(ip)"


def synonym_sets(folder: Path) -> Iterator[str]:
    """The lines of wordnet.txt, sorted, nouns after adjectives. The line format is wndb(5)'s: the fourth field counts
    the names in hexadecimal, each followed by a number."""
    lines = set()
    for kind, name in (("n", "data.noun"), ("a", "data.adj")):
        for line in (folder / name).read_text(encoding="ascii").splitlines():
            if line.startswith("  "):  # the licence
                continue
            fields = line.split(" ")
            letter = "l" if kind == "n" and fields[1] in LIVING else kind
            names = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            lines.add(f"{letter}\t" + "|".join(_MARKER.sub("", word).replace("_", " ") for word in names))
    yield from sorted(lines)


def main(folder: Path, target: Path) -> None:
    text = "".join(f"{line}\n" for line in synonym_sets(folder))
    # Without a time stamp the same input gives the same bytes.
    target.write_bytes(gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/wordnet"), TARGET)
