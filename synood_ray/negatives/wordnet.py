"""Nouns and adjectives of WordNet 3.0, kept as synonym sets (wordnet.txt.gz, made by tools/derive_wordnet.py)."""

from __future__ import annotations

import gzip
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

from synood_ray.data.names import names_in, qualifiers

Kind = Literal["noun", "adjective"]

_LIVING = "l"  # a noun of noun.animal or noun.food
_OUTSIDE = "or"  # nouns of persons, quantities and groups, adjectives of adj.pert
_KINDS: dict[str, Kind] = {"n": "noun", _LIVING: "noun", "o": "noun", "a": "adjective", "r": "adjective"}
_IRREGULAR = {
    "children": "child",
    "dice": "die",
    "feet": "foot",
    "geese": "goose",
    "leaves": "leaf",
    "men": "man",
    "mice": "mouse",
    "oxen": "ox",
    "teeth": "tooth",
    "women": "woman",
}
_KEEP_S = ("ss", "us", "is", "as", "os")


@dataclass(frozen=True)
class WordNet:
    """Synonym sets in file order, and where each word occurs.

    sets: (kind, names) with the most frequent name first; index: comparable form (see `comparable`) -> set numbers;
    living: numbers of the sets of animals and food, which NegLabel leaves out; outside: of persons, quantities, groups
    and adjectives that pertain to something, which CSP leaves out; above: numbers of every set's hypernyms, what it is
    a kind of.
    """

    sets: tuple[tuple[Kind, tuple[str, ...]], ...]
    index: dict[str, tuple[int, ...]]
    living: frozenset[int] = frozenset()
    outside: frozenset[int] = frozenset()
    above: tuple[tuple[int, ...], ...] = ()

    def words(self, kind: Kind, *, without: Container[int] = ()) -> list[str]:
        """The most frequent name of every synonym set of that kind, each word `once`, in file order.

        without: numbers of sets that are left out, such as `living`.
        """
        sets = enumerate(self.sets)
        return once(names[0] for number, (own, names) in sets if own == kind and number not in without)

    def synonyms(self, word: str) -> set[str]:
        """Comparable forms of every name that shares a synonym set with the word, itself included."""
        key = comparable(word)
        shared = {comparable(name) for number in self.index.get(key, ()) for name in self.sets[number][1]}
        return shared | {key}


@lru_cache(maxsize=1)
def load_wordnet() -> WordNet:
    """Read the bundled word list (about half a second, then cached)."""
    data = resources.files("synood_ray.negatives").joinpath("wordnet.txt.gz").read_bytes()
    sets: list[tuple[Kind, tuple[str, ...]]] = []
    index: dict[str, list[int]] = {}
    living: set[int] = set()
    outside: set[int] = set()
    above: list[tuple[int, ...]] = []
    for number, line in enumerate(gzip.decompress(data).decode("ascii").splitlines()):
        letter, names, *hypernyms = line.split("\t")
        members = tuple(names.split("|"))
        above.append(tuple(map(int, hypernyms[0].split())) if hypernyms else ())
        sets.append((_KINDS[letter], members))
        if letter == _LIVING:
            living.add(number)
        if letter in _OUTSIDE:
            outside.add(number)
        for key in {comparable(name) for name in members}:
            index.setdefault(key, []).append(number)
    by_form = {key: tuple(numbers) for key, numbers in index.items()}
    return WordNet(tuple(sets), by_form, frozenset(living), frozenset(outside), tuple(above))


def once(words: Iterable[str]) -> list[str]:
    """The words in their order; of those that differ in case only, which CLIP does not tell apart, the first."""
    found: dict[str, str] = {}
    for word in words:
        found.setdefault(word.lower(), word)
    return list(found.values())


def comparable(word: str) -> str:
    """The form in which two names count as the same: lower case, blanks for ``-`` and ``_``, last word singular."""
    words = re.sub(r"[\s_-]+", " ", word).strip().lower().split(" ")
    return " ".join([*words[:-1], _singular(words[-1])])


def id_forms(class_names: Iterable[str]) -> set[str]:
    """Comparable forms of all class names, the names inside them, what stands in brackets, and WordNet's synonyms."""
    wordnet = load_wordnet()
    parts = {part for name in class_names for part in (name, *names_in(name), *qualifiers(name))}
    return {form for part in parts for form in wordnet.synonyms(part)}


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(_KEEP_S):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("xes", "ches", "shes", "sses", "zes")):
        return word[:-2]
    return word[:-1]
