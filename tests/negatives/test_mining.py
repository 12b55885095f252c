from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from synood_ray.config.models import LabelSettings
from synood_ray.errors import UserError
from synood_ray.negatives.mining import KINDS, Candidates, NegativeLabels, load_candidates, mine, pair
from synood_ray.scores.base import ROWS

ID_NAMES = ["car", "fox"]
ANGLES = {"truck": 20.0, "wolf": 30.0, "cloud": 80.0, "idea": 120.0, "red": 40.0, "loud": 150.0}


def encode_text(prompts: list[str]) -> torch.Tensor:
    """A unit vector at the angle of the word in the prompt; the prompts themselves are recorded."""
    seen.extend(prompts)
    angles = [next(angle for word, angle in ANGLES.items() if word in prompt) for prompt in prompts]
    radians = torch.deg2rad(torch.tensor(angles))
    return torch.stack([radians.cos(), radians.sin()], dim=1)


seen: list[str] = []
ID_FEATURES = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1]]), dim=1)
CANDIDATES = Candidates(list(ANGLES), ["noun", "noun", "noun", "noun", "adjective", "adjective"])


def test_keeps_the_farthest_share_of_each_kind() -> None:
    seen.clear()
    labels = mine(CANDIDATES, ID_NAMES, ID_FEATURES, encode_text, LabelSettings(keep=0.5))
    assert labels.words == ["idea", "cloud", "loud"]
    assert labels.kinds == ["noun", "noun", "adjective"]
    assert "the nice truck" in seen
    assert "This is a red photo" in seen
    assert labels.features.shape == (3, 2)


def test_score_is_the_quantile_over_classes() -> None:
    labels = mine(CANDIDATES, ID_NAMES, ID_FEATURES, encode_text, LabelSettings(keep=1.0, quantile=0.75))
    low, high = sorted((encode_text(["cloud"]) @ ID_FEATURES.T)[0].tolist())
    assert labels.scores[labels.words.index("cloud")] == pytest.approx(low + 0.75 * (high - low), abs=1e-6)


def test_names_plurals_and_synonyms_of_id_classes_are_dropped() -> None:
    words = ["automobile", "Cars", "fox", "motorcar", "truck"]
    candidates = Candidates(words, ["noun", "noun", "noun", "noun", "noun"])
    labels = mine(candidates, ID_NAMES, ID_FEATURES, encode_text, LabelSettings(keep=1.0))
    assert labels.words == ["truck"]


def test_only_id_names_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"labels\.candidates"):
        mine(Candidates(["fox"], ["noun"]), ID_NAMES, ID_FEATURES, encode_text, LabelSettings())


def test_pair_takes_the_nearest_label_whatever_the_norm() -> None:
    labels = NegativeLabels(["a", "b"], ["noun", "noun"], torch.eye(2), [0.0, 0.0])
    assert pair(torch.tensor([[0.1, 0.2], [30.0, 1.0]]), labels).tolist() == [1, 0]


def test_a_million_images_are_paired_some_at_a_time() -> None:
    """As for all at once; no product has more rows than `ROWS`."""
    rows: list[int] = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if function is torch.Tensor.matmul or function is torch.Tensor.__matmul__:
                rows.append(len(args[0]))
            return super().__torch_function__(function, types, args, kwargs or {})

    images = torch.randn(2 * ROWS + 5, 8, generator=torch.Generator().manual_seed(0))
    text = F.normalize(torch.randn(30, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    labels = NegativeLabels([str(i) for i in range(30)], ["noun"] * 30, text, [0.0] * 30)
    found = pair(images.as_subclass(Watched), labels).as_subclass(torch.Tensor)
    assert torch.equal(found, (images @ text.T).argmax(dim=1)) and rows == [ROWS, ROWS, 5]


def test_labels_survive_storage() -> None:
    labels = mine(CANDIDATES, ID_NAMES, ID_FEATURES, encode_text, LabelSettings(keep=0.5))
    loaded = NegativeLabels.from_bytes(labels.to_bytes())
    assert (loaded.words, loaded.kinds) == (labels.words, labels.kinds)
    assert torch.equal(loaded.features, labels.features)
    assert loaded.scores == pytest.approx(labels.scores)


def test_candidates_file(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeffkite\n\n drum \nkite\nKite\n", encoding="utf-8")  # with the mark that some editors put first
    candidates = load_candidates(LabelSettings(candidates=str(path)))
    assert candidates == Candidates(["kite", "drum"], ["noun", "noun"])


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\xff"])
def test_unusable_candidates_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"labels\.candidates"):
        load_candidates(LabelSettings(candidates=str(path)))


def test_wordnet_candidates_hold_both_kinds() -> None:
    candidates = load_candidates(LabelSettings())
    assert len(candidates.words) == len(candidates.kinds)
    assert set(candidates.kinds) == {"noun", "adjective"}


def test_the_papers_list_leaves_out_animals_and_food() -> None:
    """NegLabel's has 56,909 nouns and 13,091 adjectives, of which 10,499 are kept; ours come within 1.2 % of both."""
    candidates = load_candidates(LabelSettings(candidates="neglabel"))
    counts = [candidates.kinds.count(kind) for kind in KINDS]
    assert counts == [56_788, 14_006]
    assert sum(counts) == pytest.approx(56_909 + 13_091, rel=0.012)
    assert sum(int(0.15 * count) for count in counts) == pytest.approx(10_499, rel=0.012)
    everything = load_candidates(LabelSettings(candidates="wordnet"))
    words, more = ({word.lower() for word in one.words} for one in (candidates, everything))
    assert len(words) == len(candidates.words) and words < more  # nothing twice, nothing new
    assert {"aardvark", "bread"} <= more - words and {"abaca", "adhesive"} <= words
