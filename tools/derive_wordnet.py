"""Derive wordnet.txt.gz, the bundled noun and adjective synonym sets, from WordNet's own data files.

    python -m tools.derive_wordnet [FOLDER]

FOLDER holds data.noun and data.adj of WordNet 3.0 (Debian: package wordnet-base, /usr/share/wordnet). One line a
synonym set: its kind (n or a; l for a noun of the lexicographer files noun.animal and noun.food, which NegLabel
leaves out; o and r for those that CSP leaves out, nouns of persons, quantities and groups and adj.pert's), a tab, its
names by falling frequency, separated by ``|``, and for nouns a tab and the line numbers of its
hypernyms, what it is a kind or an instance of. Glosses, other relations and the
other parts of speech are left out. WordNet's licence is in LICENSE.wordnet.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TARGET = Path(__file__).parents[1] / "synood_ray" / "negatives" / "wordnet.txt.gz"
LETTERS = {"05": "l", "13": "l", "14": "o", "18": "o", "23": "o", "01": "r"}
"""Of noun.animal, .food, .group, .person, .quantity and adj.pert, by lexnames(5wn)."""
ORDER = {"o": "n", "r": "a"}
"""Where they stand among the others."""
HYPERNYM = ("@", "@i")  # a kind of, an instance of
_MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may stand, such as "galore(ip)"


class Synset(NamedTuple):
    """letter: the kind; offset: where it stands in its data file; above: offsets of its hypernyms."""

    letter: str
    names: str
    offset: str
    above: tuple[str, ...]


def synonym_sets(folder: Path) -> list[Synset]:
    """All of them, sorted. The line format is wndb(5)'s: the fourth field counts the names in hexadecimal, each
    followed by a number; then come a count of pointers and four fields for each."""
    found = []
    for kind, name in (("n", "data.noun"), ("a", "data.adj")):
        for line in (folder / name).read_text(encoding="ascii").splitlines():
            if line.startswith("  "):  # the licence
                continue
            fields = line.split(" ")
            letter = LETTERS.get(fields[1], kind)
            end = 4 + 2 * int(fields[3], 16)
            names = "|".join(_MARKER.sub("", word).replace("_", " ") for word in fields[4:end:2])
            pointers = fields[end + 1 : end + 1 + 4 * int(fields[end])]
            above = [pointers[i + 1] for i in range(0, len(pointers), 4) if pointers[i] in HYPERNYM]
            found.append(Synset(letter, names, fields[0], tuple(above) if kind == "n" else ()))
    return sorted(found, key=lambda one: (ORDER.get(one.letter, one.letter), *one[1:]))


def lines(sets: list[Synset]) -> Iterator[str]:
    """The lines of wordnet.txt. Line numbers start at 0; no line names a set of the other data file."""
    numbers = {one.offset: number for number, one in enumerate(sets) if one.letter not in "ar"}
    for one in sets:
        above = " ".join(str(numbers[offset]) for offset in one.above)
        yield f"{one.letter}\t{one.names}" + (f"\t{above}" if above else "")


def main(folder: Path, target: Path) -> None:
    text = "".join(f"{line}\n" for line in lines(synonym_sets(folder)))
    # Without a time stamp the same input gives the same bytes.
    target.write_bytes(gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/wordnet"), TARGET)
