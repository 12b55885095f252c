"""CSP's pool of negative labels: nouns, and adjectives in front of a superclass, such as "foggy landscape".

Chen et al., "Conjugated semantic pool improves OOD detection with pre-trained vision-language models", NeurIPS 2024
(arXiv 2410.08611), as its code has it: each adjective with one of 14 superclasses, drawn; ensembles of prompts; a
candidate whose cosine with some ID class is above .95 is left out; the rest is NegLabel's mining. A feature is the mean
of unit features here, there of features as long as the text tower gives them.
"""

from __future__ import annotations

import hashlib
import json
import random
from typing import TYPE_CHECKING, Protocol

from synood_ray.config.settings import Settings
from synood_ray.negatives.mining import KINDS, WORD_LISTS, Candidates, NegativeLabels, load_candidates, row_quantile
from synood_ray.negatives.wordnet import Kind, load_wordnet
from synood_ray.scores.csp import NOUN_PROMPTS
from synood_ray.storage import layout
from synood_ray.storage.intact import intact
from synood_ray.storage.stores.base import Store

if TYPE_CHECKING:
    from torch import Tensor

ADJECTIVE_PROMPTS = ("{}", "a nice photo of {}", "a good photo of {}", "a close-up photo of {}")
SUPERCLASSES = (
    *("environment", "space", "object", "scene", "place", "item", "area"),
    *("view", "thing", "pattern", "structure", "landscape", "vista", "creature"),
)
NEAREST = 0.95
"""A candidate with a larger cosine with some ID class is none."""

_BATCH = 2048


class ClassEncoder(Protocol):
    """The part of `synood_ray.models.clip.ClipModel` that this calls."""

    def encode_classes(self, names: list[str], templates: list[str]) -> Tensor: ...


class IdentifiedEncoder(ClassEncoder, Protocol):
    """And the part that says which model it is."""

    @property
    def identity(self) -> str: ...


def csp_labels(settings: Settings, store: Store, class_names: list[str], clip: IdentifiedEncoder) -> NegativeLabels:
    """The pool for these classes and this CLIP, kept in the run: made once, then read.

    With ``evaluation.prompts: run`` the run's own prompt stands for all of CSP's.
    """
    own = settings.evaluation.prompts == "run"
    prompts = {
        "id": settings.clip.templates if own else list(NOUN_PROMPTS),
        "noun": [settings.labels.noun_prompt] if own else list(NOUN_PROMPTS),
        "adjective": [settings.labels.noun_prompt] if own else list(ADJECTIVE_PROMPTS),
    }
    labels = settings.labels
    made_of: list[object] = [clip.identity, class_names, prompts]
    made_of += [labels.candidates, labels.quantile, labels.keep]
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]

    def made() -> bytes:
        id_features = clip.encode_classes(class_names, prompts["id"])
        return pool(csp_candidates(settings), id_features, clip, prompts, labels.quantile, labels.keep).to_bytes()

    key = f"{layout.FEATURES}csp-{digest}.safetensors"
    kept = store.keep(key, made)
    with intact(store, key):
        return NegativeLabels.from_bytes(kept)


def csp_candidates(settings: Settings) -> Candidates:
    """WordNet's nouns but for persons, quantities and groups, and its adjectives but for those that pertain to
    something, each word once and each adjective with its superclass; or the nouns of the file that
    ``labels.candidates`` names."""
    if settings.labels.candidates not in WORD_LISTS:
        return load_candidates(settings.labels)
    wordnet, chance = load_wordnet(), random.Random(0)
    nouns, adjectives = (wordnet.words(kind, without=wordnet.outside) for kind in KINDS)
    known = {word.lower() for word in nouns}
    phrases = [f"{word} {chance.choice(SUPERCLASSES)}" for word in adjectives if word.lower() not in known]
    kinds: list[Kind] = ["noun"] * len(nouns) + ["adjective"] * len(phrases)  # type: ignore[assignment]
    return Candidates([*nouns, *phrases], kinds)


def pool(
    candidates: Candidates,
    id_features: Tensor,
    clip: ClassEncoder,
    prompts: dict[str, list[str]],
    quantile: float,
    keep: float,
) -> NegativeLabels:
    """Of nouns and adjectives apart, the share `keep` that is farthest from the ID classes [C, D] (unit features), by
    the quantile over classes of the cosine; those nearer than `NEAREST` to one of them come last."""
    import torch

    words, kinds, features, scores = [], [], [], []
    for kind in KINDS:
        own = [word for word, its in zip(candidates.words, candidates.kinds, strict=True) if its == kind]
        if not own:
            continue
        batches = [own[start : start + _BATCH] for start in range(0, len(own), _BATCH)]
        encoded = torch.cat([clip.encode_classes(batch, prompts[kind]) for batch in batches])
        cosines = encoded @ id_features.to(encoded).T
        score = row_quantile(cosines, quantile)
        score[cosines.amax(dim=-1) > NEAREST] = 1.0
        kept = score.argsort(stable=True)[: max(1, int(keep * len(own)))]
        words += [own[i] for i in kept.tolist()]
        kinds += [kind] * len(kept)
        features.append(encoded[kept])
        scores.append(score[kept])
    return NegativeLabels(words, kinds, torch.cat(features).cpu(), torch.cat(scores).cpu().tolist())
