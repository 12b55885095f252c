"""The pool as CSP's code has it, its prompts, superclasses and files written out here."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from synood_ray.config.settings import Settings
from synood_ray.negatives.csp import ADJECTIVE_PROMPTS, SUPERCLASSES, csp_candidates, csp_labels, pool
from synood_ray.negatives.mining import Candidates
from synood_ray.scores.csp import NOUN_PROMPTS
from synood_ray.storage.stores import open_store

ANGLES = {"truck": 20.0, "near": 5.0, "cloud": 80.0, "idea": 120.0, "red": 40.0, "loud": 150.0, "car": 0.0, "fox": 6.0}


class Plane:
    """Texts are unit vectors at the angle of the word that they hold."""

    identity = "plane"

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    def encode_classes(self, names: list[str], templates: list[str]) -> torch.Tensor:
        self.asked.append((tuple(names), tuple(templates)))
        angles = [next(angle for word, angle in ANGLES.items() if word in name) for name in names]
        radians = torch.deg2rad(torch.tensor(angles))
        return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_words_of_the_paper() -> None:
    assert len(NOUN_PROMPTS) == 8 and len(ADJECTIVE_PROMPTS) == 4 and len(SUPERCLASSES) == 14
    found = csp_candidates(Settings())
    nouns = {word for word, kind in zip(found.words, found.kinds, strict=True) if kind == "noun"}
    phrases = [word for word, kind in zip(found.words, found.kinds, strict=True) if kind == "adjective"]
    assert {"dog", "bread", "harbor"} <= nouns  # animals and food stay
    assert not {"accountant", "kilogram", "regiment"} & nouns  # noun.person, noun.quantity, noun.group
    assert all(phrase.rpartition(" ")[2] in SUPERCLASSES for phrase in phrases)
    adjectives = {phrase.rpartition(" ")[0] for phrase in phrases}
    assert "coniferous" in adjectives and "Bavarian" not in adjectives  # adj.pert
    assert len(adjectives) == len(phrases) and not adjectives & nouns
    counts = [sum(phrase.endswith(f" {one}") for phrase in phrases) for one in SUPERCLASSES]
    assert min(counts) > 0.85 * len(phrases) / 14
    assert csp_candidates(Settings()) == found


def test_the_farthest_share_of_nouns_and_of_phrases_without_what_is_too_near() -> None:
    clip = Plane()
    words = ["truck", "near", "cloud", "idea", "red scene", "loud item"]
    candidates = Candidates(words, ["noun"] * 4 + ["adjective"] * 2)
    id_features = clip.encode_classes(["car", "fox"], ["{}"])
    prompts = {"noun": list(NOUN_PROMPTS), "adjective": list(ADJECTIVE_PROMPTS)}
    made = pool(candidates, id_features, clip, prompts, 0.95, 0.75)
    # "truck" (cosine .970 with "fox") and "near" are too near: 1.0 both, and last, in their order.
    assert made.words == ["idea", "cloud", "truck", "loud item"]
    assert made.scores[2] == 1.0 and made.kinds == ["noun"] * 3 + ["adjective"]
    low, high = (clip.encode_classes(["cloud"], ["{}"]) @ id_features.T)[0].sort().values.tolist()
    assert made.scores[1] == pytest.approx(low + 0.95 * (high - low), abs=1e-6)
    assert clip.asked[1:3] == [
        (("truck", "near", "cloud", "idea"), NOUN_PROMPTS),
        (("red scene", "loud item"), ADJECTIVE_PROMPTS),
    ]
    assert torch.allclose(made.features, F.normalize(made.features, dim=1))


def test_it_is_kept_in_the_run_and_made_anew_for_other_prompts(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("truck\ncloud\nidea\n")
    settings, store, clip = Settings(), open_store(str(tmp_path / "run")), Plane()
    settings.labels.candidates, settings.labels.keep = str(words), 0.7
    first = csp_labels(settings, store, ["car"], clip)
    assert first.words == ["idea", "cloud"] and clip.asked[0] == (("car",), NOUN_PROMPTS)
    other = Plane()
    other.identity = "another model of the same name"
    csp_labels(settings, store, ["car"], other)
    assert other.asked
    asked = len(clip.asked)
    assert csp_labels(settings, store, ["car"], clip).words == first.words and len(clip.asked) == asked
    settings.evaluation.prompts = "run"
    csp_labels(settings, store, ["car"], clip)
    assert clip.asked[asked:] == [(("car",), ("a nice {}",)), (("truck", "cloud", "idea"), ("the nice {}",))]
