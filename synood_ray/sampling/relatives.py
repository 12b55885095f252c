"""What an ID class is related to: other ID classes that it can be blended with, and names of things that it is not.

Found once a run, from names, texts and the run's own ID images; test sets have no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from synood_ray.config.sampling import PolicyName, PromptSettings
from synood_ray.data import files
from synood_ray.data.class_names import read_class_names
from synood_ray.data.names import names_in
from synood_ray.errors import UserError
from synood_ray.negatives.families import children, cousins, related_forms
from synood_ray.negatives.wordnet import comparable, id_forms, load_wordnet, once

if TYPE_CHECKING:
    from torch import Tensor

PAIRED: tuple[PolicyName, ...] = ("blend", "switch")
"""The policies that paint a partner."""

WORDNET, DESCRIBER = "wordnet", "describer"
"""Names in ``prompts.named_by`` that are no file's."""

NEAREST = 0.5
"""Share of the other ID classes, the nearest to a class by their texts, that a proposed name must be among."""

_CANDIDATES = 400
"""Names a class that are compared with its images, at most."""


@dataclass(frozen=True, slots=True)
class Relatives:
    """By label: partners, labels of related classes, nearest first (none without a policy that takes them); and
    neighbours, names of things that are no ID class. Stored once a run as ``relatives.json``."""

    partners: list[list[int]] = field(default_factory=list)
    neighbours: list[list[str]] = field(default_factory=list)

    def strangers(self, label: int) -> list[int]:
        """Classes that are neither this one nor a partner of it."""
        return sorted(set(range(len(self.partners))) - {label, *self.partners[label]})

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Relatives:
        return cls(**json.loads(data))


class Texts(Protocol):
    """Words -> L2-normalised text features [N, D] float32, each in the prompt of an ID class."""

    def __call__(self, words: list[str]) -> Tensor: ...


def check_prompts(settings: PromptSettings, classes: Sequence[str]) -> None:
    """Raise UserError for what is wrong with these settings on these classes, before anything is written or loaded."""
    if any(settings.takes(policy) for policy in PAIRED):
        if len({comparable(name) for name in classes}) < 2:
            raise UserError(f"prompts.policy {settings.policy}: needs two classes, but all are {classes[0]!r}")
        if settings.groups:
            read_groups(settings.groups, classes)
    if settings.takes("neighbour"):
        blind, listed = read_blind(settings.blind), _listed(settings)
        if not any(_names(name, classes, blind, listed) for name in classes):
            source = "WordNet knows none" if listed is None else f"{settings.named_by} has none"
            told = "the blind list leaves none" if blind else source
            raise UserError(f"prompts.policy {settings.policy}: no class has a neighbour that can be named: {told}")


def find_relatives(
    settings: PromptSettings, classes: Sequence[str], texts: Texts | None, images: Tensor | None
) -> Relatives:
    """What the policies of these settings need to know of the ID classes.

    texts: of CLIP, None where the scorer has no text tower; images [C, D]: L2-normalised mean features of the classes'
    ID images, None as well. Raises UserError if some class has no partner or no neighbour.
    """
    partners: list[list[int]] = []
    neighbours: list[list[str]] = []
    if any(settings.takes(policy) for policy in PAIRED):
        partners = _partners(settings, classes, texts)
    if settings.takes("neighbour"):
        neighbours = _neighbours(settings, classes, texts, images)
    return Relatives(partners, neighbours)


def _partners(settings: PromptSettings, classes: Sequence[str], texts: Texts | None) -> list[list[int]]:
    """Partners of every class: of its group; else of its WordNet family; else those with the nearest texts."""
    groups = read_groups(settings.groups, classes) if settings.groups else None
    features = texts(list(classes)) if texts is not None else None
    forms = [comparable(name) for name in classes]
    found = []
    for label, name in enumerate(classes):
        others = [other for other in range(len(classes)) if forms[other] != forms[label]]
        if features is not None:
            cosines = (features @ features[label]).tolist()
            others.sort(key=lambda other: -cosines[other])
        if groups is not None:
            own = [other for other in others if groups[other] == groups[label]]
        else:
            family = cousins(name)
            own = [other for other in others if not family.isdisjoint(map(comparable, names_in(classes[other])))]
            own = own[: settings.partners]
        if not own and features is None:
            raise UserError(
                f"prompts.policy {settings.policy}: {name!r} is in no group with another class, and a classifier "
                "has no texts to compare classes by; name them in prompts.groups"
            )
        found.append(own or others[: settings.partners])
    return found


def _neighbours(
    settings: PromptSettings, classes: Sequence[str], texts: Texts | None, images: Tensor | None
) -> list[list[str]]:
    """Names a class, the nearest to the class's own images: WordNet's siblings and cousins, or those of the file, that
    are no ID class."""
    blind, listed = read_blind(settings.blind), _listed(settings)
    found = []
    for label, name in enumerate(classes):
        names = _names(name, classes, blind, listed)
        if names and texts is not None and images is not None:
            cosines = (texts(names) @ images[label]).tolist()
            names = [one for _, one in sorted(zip(cosines, names, strict=True), key=lambda pair: -pair[0])]
        found.append(names[: settings.neighbours])
    partners = _partners(settings, classes, texts) if not all(found) else []
    for label, names in enumerate(found):
        if not names:  # a class that nothing names: what its nearest classes have
            borrowed = once(name for other in partners[label] for name in found[other])
            found[label] = borrowed[: settings.neighbours]
        if not found[label]:
            raise UserError(
                f"prompts.policy {settings.policy}: {classes[label]!r} and its partners have no neighbour that can be "
                "named; use blend, or name groups with other classes in prompts.groups"
            )
    return found


def _names(name: str, classes: Sequence[str], blind: set[str], listed: dict[str, str] | None) -> list[str]:
    """Names that a file lists for a class, or of its siblings and cousins, that may be painted."""
    names = children(name) if listed is None else once(names_in(listed[name]) if listed.get(name, "").strip() else ())
    return name_no_class(names, classes, blind)[:_CANDIDATES]


def _listed(settings: PromptSettings) -> dict[str, str] | None:
    """Class name -> names, with commas between, of the file in ``prompts.named_by``; None if it names none."""
    if settings.named_by in (WORDNET, DESCRIBER):
        return None
    return read_class_names(settings.named_by, "prompts.named_by")


def name_no_class(names: Sequence[str], classes: Sequence[str], blind: set[str]) -> list[str]:
    """Names of nothing that is an ID class, lies above or below one in WordNet, or is blind; of what WordNet does not
    know, nothing that a class is the last word of ("toy poodle" among dogs called poodle)."""
    related, known = related_forms(tuple(classes)), load_wordnet().index

    def free(form: str) -> bool:
        head = form.rpartition(" ")[2]
        return form not in related and form not in blind and (form in known or head not in _own_forms(tuple(classes)))

    return [name for name in names if free(comparable(name))]


@lru_cache(maxsize=8)
def _own_forms(classes: Sequence[str]) -> frozenset[str]:
    return frozenset(id_forms(classes))


class Gate:
    """Which of the names that are proposed for a class are near enough to it: those whose texts are as near to the
    class's own, by CLIP, as `NEAREST` of the other ID classes are. One class alone has nothing to compare with."""

    def __init__(self, classes: Sequence[str], texts: Texts) -> None:
        self._texts, self._own = texts, texts(list(classes))
        self._near: dict[tuple[int, str], bool] = {}

    def __call__(self, label: int, names: Sequence[str]) -> tuple[str, ...]:
        """The names that pass, in their order."""
        if new := [name for name in dict.fromkeys(names) if (label, name) not in self._near]:
            others = (self._own @ self._own[label]).tolist()
            del others[label]
            least = sorted(others)[int(len(others) * (1 - NEAREST))] if others else -1.0
            near = (self._texts(new) @ self._own[label]).tolist()
            self._near |= {(label, name): cosine >= least for name, cosine in zip(new, near, strict=True)}
        return tuple(name for name in names if self._near[label, name])


def read_groups(address: str, classes: Sequence[str]) -> list[str]:
    """The group of every class, by label, from a JSON object or a CSV of two columns, class name -> group.

    Raises UserError if the file cannot be read, lacks a class, or puts no two classes into one group.
    """
    groups = read_class_names(address, "prompts.groups")
    missing = [name for name in classes if name not in groups]
    if missing:
        raise UserError(f"prompts.groups: {address} has no group for {len(missing)} classes, such as {missing[0]!r}")
    found = [groups[name] for name in classes]
    if len(set(found)) == len(found):
        raise UserError(f"prompts.groups: {address} puts every class into a group of its own; nothing has a partner")
    return found


def read_blind(address: str | None) -> set[str]:
    """Comparable forms of the names that are never painted. Raises UserError if the file cannot be read."""
    if address is None:
        return set()
    try:
        lines = files.read_bytes(files.absolute(address)).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"prompts.blind: {address} cannot be read as text: {error}") from error
    return {comparable(line) for line in lines if line.strip()}
