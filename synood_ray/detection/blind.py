"""The blind check: which classes of the OOD test sets the run has seen by name, though no image of them.

A near claim is worth more where none has: a negative label, a prompt or a describer's answer that names a test class
tells the detector what it will be tested on. Nothing is taken out; it is counted and shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from synood_ray.negatives.wordnet import comparable
from synood_ray.storage import layout
from synood_ray.storage.parts import prompt_column
from synood_ray.storage.run import Run

PLACES = {"words": "negative labels", "prompts": "prompts", "answers": "describer's answers"}
"""Names in evaluation.json -> in words."""

_NAMELESS = re.compile(r"n\d{8}|[\W\d_]*")
"""A wnid, or no letters: what such a class is called is not known here."""


def blind_check(run: Run, negative_words: Iterable[str], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Set -> ``classes`` (how many of its names can be looked for) and, for each of `PLACES`, those that stand there.

    names: the class names of every OOD set. Two names count as the same as in mining: case, ``-`` and ``_``, singular
    and plural do not matter. Sets of which no class has a name are left out.
    """
    wanted = {
        where: {comparable(name): name for name in its if not _NAMELESS.fullmatch(name)} for where, its in names.items()
    }
    wanted = {where: its for where, its in wanted.items() if its}
    if not wanted:
        return {}
    forms = set().union(*wanted.values())
    texts: dict[str, Callable[[], Iterator[str]]] = {"prompts": lambda: _prompts(run), "answers": lambda: _answers(run)}
    seen = {"words": forms & {comparable(word) for word in negative_words}}
    seen |= {place: _named(read(), forms) for place, read in texts.items()}
    return {
        where: {"classes": len(its)}
        | {place: sorted(its[form] for form in seen[place] & its.keys()) for place in PLACES}
        for where, its in wanted.items()
    }


def told(checked: Mapping[str, Any]) -> list[str]:
    """A sentence a set, as in "near/ninco: of 64 class names 2 stand among negative labels (such as 'x'), …"."""
    sentences = []
    for where, found in checked.items():
        parts = [
            f"{len(found[place])} in {meaning}" + (f" (such as {found[place][0]!r})" if found[place] else "")
            for place, meaning in PLACES.items()
        ]
        sentences.append(f"blind check, {where}: of {found['classes']} class names {', '.join(parts)}")
    return sentences


def _named(texts: Iterable[str], forms: set[str]) -> set[str]:
    """Which of the forms stand in the texts, as words in a row.

    A word alone is looked at once, however many texts it stands in; several words only where a form begins so.
    """
    lengths: dict[str, set[int]] = {}  # first word of the forms of several words -> how many they have
    for form in forms:
        first, *others = form.split(" ")
        if others:
            lengths.setdefault(first, set()).add(1 + len(others))
    alone: set[str] = set()
    found: set[str] = set()
    for text in set(texts):
        words = [word.lower() for word in re.findall(r"\w+(?:'\w+)?", text.replace("_", " "))]
        alone.update(words)
        for start, word in enumerate(words):
            spans = (words[start : start + length] for length in lengths.get(word, ()))
            found.update(forms.intersection(comparable(" ".join(span)) for span in spans))
    return found | forms.intersection(map(comparable, alone))


def _prompts(run: Run) -> Iterator[str]:
    """What was painted, of every published sample."""
    if run.manifest() is not None:
        for table in run.rows(["prompt"]):
            yield from table.column("prompt").unique().to_pylist()


def _answers(run: Run) -> Iterator[str]:
    """What the describer said, before it was cleaned."""
    for entry in run.store.list(layout.PROMPTS):
        if layout.prompts_unit(entry.key) is not None:
            yield from prompt_column(run.store.get(entry.key), "raw")
