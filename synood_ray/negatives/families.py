"""Families of words by WordNet's hypernyms, "is a kind of": siblings and cousins, what lies above and below a word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from synood_ray.data.names import names_in
from synood_ray.negatives.wordnet import comparable, load_wordnet, once

_NEAR, _FAR = 1, 2
"""Steps up to what siblings share, and cousins."""

_BROAD = 400
"""A set with more sets than this below it, within the steps asked for, is no family: "thing", "device"."""


def cousins(name: str) -> set[str]:
    """Comparable forms of the names of a word's siblings and cousins, in every sense it has; siblings only, if any of
    its families is too broad for cousins. The word itself is among them."""
    wordnet = load_wordnet()
    return {comparable(word) for number in _family(name) for word in wordnet.sets[number][1]}


def children(name: str) -> list[str]:
    """The most frequent name of each sibling and cousin of a word, siblings first, each once, without proper nouns."""
    sets = load_wordnet().sets
    return once(word for number in _family(name) if (word := sets[number][1][0]) == word.lower())


@lru_cache(maxsize=8)
def related_forms(names: Sequence[str]) -> frozenset[str]:
    """Comparable forms of everything that one of these names is, is a kind of, or has as a kind, in any sense."""
    wordnet = load_wordnet()
    found = set()
    for name in names:
        own = _senses(name)
        numbers = {*own, *_all(own, wordnet.above), *_all(own, _below())}
        found |= {comparable(word) for number in numbers for word in wordnet.sets[number][1]}
        found |= {comparable(part) for part in names_in(name)}
    return frozenset(found)


def _senses(name: str) -> list[int]:
    """Numbers of the noun sets that a name, or a part of it between commas, is in."""
    wordnet = load_wordnet()
    numbers = [number for part in names_in(name) for number in wordnet.index.get(comparable(part), ())]
    return [number for number in dict.fromkeys(numbers) if wordnet.sets[number][0] == "noun"]


def _family(name: str) -> list[int]:
    """Numbers of the sets one step down from one up of a word's senses, then two down from two up, each once."""
    above, below = load_wordnet().above, _below()
    found: dict[int, None] = {}
    for steps in (_NEAR, _FAR):
        for sense in _senses(name):
            for top in _steps([sense], above, steps):
                kin = list(_steps([top], below, steps))
                if len(kin) <= _BROAD:
                    found |= dict.fromkeys(kin)
    return list(found)


def _steps(numbers: Sequence[int], links: Sequence[Sequence[int]], steps: int) -> Iterator[int]:
    """Sets exactly this many links away."""
    level = list(numbers)
    for _ in range(steps):
        level = [after for number in level for after in links[number]]
    yield from dict.fromkeys(level)


def _all(numbers: Sequence[int], links: Sequence[Sequence[int]]) -> set[int]:
    """Sets any number of links away."""
    found: set[int] = set()
    level = set(numbers)
    while level:
        level = {after for number in level for after in links[number]} - found
        found |= level
    return found


@lru_cache(maxsize=1)
def _below() -> list[list[int]]:
    """Numbers of the sets that have each set as their hypernym."""
    above = load_wordnet().above
    below: list[list[int]] = [[] for _ in above]
    for number, hypernyms in enumerate(above):
        for hypernym in hypernyms:
            below[hypernym].append(number)
    return below
