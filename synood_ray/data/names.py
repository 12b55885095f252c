"""What a class name is: what is none (splits, numbers, ids, blanks), and the names inside one ("bat, flittermouse")."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

SPLITS = frozenset(("train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval", "holdout"))

_SPLIT_FILE = re.compile(r"(?:.*/)?(train|test|val|dev|eval|holdout)[a-z]{0,7}(?:[-_.\d].*)?\.parquet", re.IGNORECASE)
_ID = re.compile(r"(?:class|cls|category|cat|label|group|id|n|c)?[\s_.-]*\d+|[0-9a-f]{8,}|[0-9a-f-]{36}")
_NUMBERED = re.compile(r"\d+[\s_.-]+(?=[^\W\d_])")  # "002.Laysan_Albatross"
# "256x256", "48x48@2x": folders of icons and thumbnails
_SIZE = re.compile(r"\d{2,}\s*[x×]\s*\d{2,}(@\d+x)?", re.IGNORECASE)
_MARKED = re.compile(r".+#\d+", re.DOTALL)
_BRACKETS = re.compile(r"[(\[]([^()\[\]]*)[)\]]")
_BETWEEN = re.compile(r"\s*[,;/|]\s*|\s+or\s+", re.IGNORECASE)


def complaint(keys: Sequence[str], place: str) -> str | None:
    """Why the keys of a set's classes cannot be used as names, and the cure; None if they can be.

    place: the set's URI, to name a split of it.
    """
    splits = [key for key in keys if key.strip().casefold() in SPLITS]
    if splits and (len(splits) > 1 or len(splits) == len(keys)):
        return f"holds the splits {some(splits)}, which are no classes; give one of them, such as {place}/{splits[0]}"
    cure = "set data.class_names to a JSON or CSV file that maps each to its name, or to keys if they are called so"
    if blank := sum(not key.strip() for key in keys):
        return f"has {blank} class{'' if blank == 1 else 'es'} with a blank name; {cure}"
    if numbers := [key for key in keys if not any(letter.isalpha() for letter in key)]:
        return f"has classes that are numbers, not names ({some(numbers)}); {cure}"
    if sizes := [key for key in keys if _SIZE.fullmatch(key.strip())]:
        return (
            f"has folders that are sizes, not classes ({some(sizes)}); give one of them, such as {place}/{sizes[-1]}, "
            "or set data.class_names to keys if they are called so"
        )
    if keys and all(_ID.fullmatch(key.strip().casefold()) for key in keys):
        return f"has classes that are ids, not names ({some(keys)}); {cure}"
    return None


def split_of(file: str) -> str:
    """The split that a Parquet file belongs to by its name ("data/train-00000-of-00002.parquet"), "" without one."""
    named = _SPLIT_FILE.fullmatch(file)
    return named[1].lower() if named else ""


def some(names: Sequence[str]) -> str:
    """The first names of a list, for a message."""
    return ", ".join(repr(name) for name in names[:5]) + (" …" if len(names) > 5 else "")


def readable(keys: Sequence[str]) -> list[str]:
    """The keys of a set's classes as people write names: blanks for ``_``; a number before each goes, and the mark
    behind names that occur twice (``crane#0``, ``crane#1``)."""
    bases = Counter(key.rpartition("#")[0] for key in keys if _MARKED.fullmatch(key))
    keys = [base if bases[base := key.rpartition("#")[0]] > 1 else key for key in keys]
    numbered = bool(keys) and all(_NUMBERED.match(key) for key in keys)
    plain = [_NUMBERED.sub("", key, count=1) if numbered else key for key in keys]
    return [" ".join(name.replace("_", " ").split()) or key for name, key in zip(plain, keys, strict=True)]


def coinciding(names: Iterable[str]) -> list[list[int]]:
    """Places of names that are the same text to a text encoder: equal but for case and blanks. Groups, in order."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        groups[" ".join(unicodedata.normalize("NFC", name).casefold().split())].append(place)
    return [group for group in groups.values() if len(group) > 1]


@lru_cache(maxsize=4096)
def names_in(name: str) -> tuple[str, ...]:
    """The names inside one, without what stands in brackets: "bat, flittermouse" and "dog/puppy" have two."""
    bare = " ".join(_BRACKETS.sub(" ", re.sub(r"^\d+\.", "", name)).replace("_", " ").split())
    parts = [part.strip(" ,;/|") for part in _BETWEEN.split(bare)]
    return tuple(dict.fromkeys(part for part in parts if part)) or (name,)


@lru_cache(maxsize=4096)
def qualifiers(name: str) -> tuple[str, ...]:
    """What stands in brackets in a name: "kite (bird of prey)"."""
    return tuple(dict.fromkeys(found.strip() for found in _BRACKETS.findall(name) if found.strip()))


def asked_about(name: str) -> str:
    """A name as a question has it: "bat or flittermouse"; one without synonyms stays as it is."""
    inside = names_in(name)
    return " or ".join(inside) if len(inside) > 1 else name
