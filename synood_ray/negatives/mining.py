"""NegLabel mining: the candidate words that are far from every ID class.

Jiang et al., "Negative label guided OOD detection with pretrained vision-language models", ICLR 2024: a candidate y is
ranked by s(y), a high quantile over the ID classes of the cosine between their texts, and the smallest share is kept,
nouns and adjectives apart. Unlike there, words that name an ID class (itself, its plural, a synonym) are dropped first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from synood_ray.config.models import LabelSettings
from synood_ray.errors import UserError
from synood_ray.locations import resolve
from synood_ray.negatives.wordnet import Kind, comparable, id_forms, load_wordnet, once
from synood_ray.scores.base import by_rows

if TYPE_CHECKING:
    from torch import Tensor

EncodeText = Callable[[list[str]], "Tensor"]
"""Prompts -> L2-normalised text features [N, D] float32."""

KINDS: tuple[Kind, ...] = ("noun", "adjective")
WORD_LISTS = ("wordnet", "neglabel")
"""Names in ``labels.candidates`` that are no file's."""

_BATCH = 2048


@dataclass(frozen=True)
class Candidates:
    """Words that may become negative labels; kinds says which prompt each one gets."""

    words: list[str]
    kinds: list[Kind]

    def without(self, forms: set[str]) -> Candidates:
        """The candidates whose comparable form (`negatives.wordnet.comparable`) is not among the forms."""
        kept = [i for i, word in enumerate(self.words) if comparable(word) not in forms]
        return Candidates([self.words[i] for i in kept], [self.kinds[i] for i in kept])


@dataclass(frozen=True)
class NegativeLabels:
    """The mined labels, nouns before adjectives, each kind by rising s(y).

    words, kinds: M each; features: [M, D] float32, L2-normalised text features; scores: s(y), M cosines.
    """

    words: list[str]
    kinds: list[Kind]
    features: Tensor
    scores: list[float]

    def to_bytes(self, about: Mapping[str, str] | None = None) -> bytes:
        """One safetensors file that holds features, scores and words; about: what else its header is to say."""
        import torch
        from safetensors.torch import save

        tensors = {"features": self.features.contiguous(), "scores": torch.tensor(self.scores, dtype=torch.float32)}
        words = {"words": json.dumps(self.words), "kinds": json.dumps(self.kinds)}
        return save(tensors, metadata=words | dict(about or {}))

    @classmethod
    def from_bytes(cls, data: bytes) -> NegativeLabels:
        from safetensors.torch import load

        header = json.loads(data[8 : 8 + header_length(data)])["__metadata__"]
        tensors = load(data)
        words, kinds = json.loads(header["words"]), json.loads(header["kinds"])
        return cls(words, kinds, tensors["features"], tensors["scores"].tolist())


def header_length(data: bytes) -> int:
    """Bytes of a safetensors file's header, which begins at the ninth; data: its first eight, or more."""
    return int.from_bytes(data[:8], "little")


def load_candidates(settings: LabelSettings) -> Candidates:
    """The words of ``labels.candidates``: WordNet's nouns and adjectives, or a text file with one noun per line.

    ``wordnet``: all of them; ``neglabel``: without animals and food, and without a noun that is an adjective too, as
    the paper's lists have it (56,909 nouns and 13,091 adjectives there, 56,788 and 14,006 here). Theirs are 70,000 in
    all: a random draw from the 71,477 different words that these sets have would give these numbers, doubled words
    going to whichever list is read first; which 1,477 they lack is not known.
    Raises UserError if the file is missing, not UTF-8 text, or empty.
    """
    if settings.candidates in WORD_LISTS:
        wordnet = load_wordnet()
        left_out = wordnet.living if settings.candidates == "neglabel" else ()
        words = {kind: wordnet.words(kind, without=left_out) for kind in KINDS}
        if settings.candidates == "neglabel":
            adjectives = {word.lower() for word in words["adjective"]}
            words["noun"] = [word for word in words["noun"] if word.lower() not in adjectives]
        return Candidates(
            [word for kind in KINDS for word in words[kind]], [kind for kind in KINDS for _ in words[kind]]
        )
    try:
        text = Path(resolve(settings.candidates)).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"labels.candidates {settings.candidates!r} cannot be read as text: {error}") from error
    nouns = once(line.strip() for line in text.splitlines() if line.strip())
    if not nouns:
        raise UserError(f"labels.candidates {settings.candidates!r} holds no words; put one a line")
    return Candidates(nouns, [cast(Literal["noun"], "noun")] * len(nouns))


def mine(
    candidates: Candidates,
    id_names: list[str],
    id_features: Tensor,
    encode_text: EncodeText,
    settings: LabelSettings,
) -> NegativeLabels:
    """Rank the candidates against the ID classes and keep those that are farthest.

    id_features [C, D]: L2-normalised text features of the ID classes. A candidate's s(y) is the ``labels.quantile``
    quantile over c of cos(y, t_c); of every kind the floor(``labels.keep`` N) smallest are kept (at least one).
    Raises UserError if every candidate names an ID class.
    """
    import torch

    candidates = candidates.without(id_forms(id_names))
    if not candidates.words:
        raise UserError(f"labels.candidates {settings.candidates!r}: every word names an ID class; add other words")
    words: list[str] = []
    kinds: list[Kind] = []
    features: list[Tensor] = []
    scores: list[Tensor] = []
    for kind in KINDS:
        own = [word for word, word_kind in zip(candidates.words, candidates.kinds, strict=True) if word_kind == kind]
        if not own:
            continue
        encoded = _encode(prompts_of(own, [kind] * len(own), settings), encode_text)
        score = row_quantile(encoded @ id_features.to(encoded).T, settings.quantile)
        kept = torch.argsort(score, stable=True)[: max(1, int(settings.keep * len(own)))]
        words += [own[i] for i in kept.tolist()]
        kinds += [kind] * len(kept)
        features.append(encoded[kept])
        scores.append(score[kept])
    return NegativeLabels(words, kinds, torch.cat(features).cpu(), torch.cat(scores).cpu().tolist())


def prompts_of(words: list[str], kinds: list[Kind], settings: LabelSettings) -> list[str]:
    """The prompt of every word, by its kind."""
    prompts = {"noun": settings.noun_prompt, "adjective": settings.adjective_prompt}
    return [prompts[kind].format(word) for word, kind in zip(words, kinds, strict=True)]


def pair(image_features: Tensor, negatives: NegativeLabels) -> Tensor:
    """The negative label nearest to each image by cosine: features [K, D] -> int64 [K], indices into negatives."""
    text = negatives.features.to(image_features).T
    # The images' norm does not change which label is nearest.
    return by_rows(lambda part: (part @ text).argmax(dim=-1), image_features)


def _encode(prompts: list[str], encode_text: EncodeText) -> Tensor:
    import torch

    return torch.cat([encode_text(prompts[start : start + _BATCH]) for start in range(0, len(prompts), _BATCH)])


def row_quantile(cosines: Tensor, quantile: float) -> Tensor:
    """Row-wise quantile in slices: torch.quantile refuses more than 2**24 elements at once."""
    import torch

    return torch.cat([torch.quantile(part, quantile, dim=-1) for part in cosines.split(_BATCH)])
