"""The check's CLIP rows: recognition, OOD scores, size and speed, and the oracle that proves headroom."""

import statistics
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from synood_ray.mini import data_path, model_path
from synood_ray.mini.world import load_world
from tools.mini_world.check import Row, at_least, at_most, between, megabytes, read_images

PROMPT = "a photo of a {}."
GROUPS = 10
KEEP = 0.15
SEEDS = (0, 1, 2)
SPLITS = 5


@dataclass(frozen=True)
class Bench:
    """One CLIP with its texts: ``encode`` maps uint8 images [N, 3, 64, 64] to features [N, D], not normalised."""

    model: Any
    id_text: Any  # [C, D], unit length, order of World.id
    negative_text: Any  # [M, D], unit length, mined

    def encode(self, images: Any) -> Any:
        import torch

        from tools.mini_world.train_clip import preprocess

        with torch.no_grad():
            return torch.cat([self.model.encode_image(preprocess(part)) for part in images.split(128)])


@lru_cache(maxsize=3)
def load_bench(seed: int = 0) -> Bench:
    """The shipped CLIP, or its sibling with another seed's head, with negative labels mined from words.txt."""
    import open_clip
    import torch
    from safetensors.torch import load_file
    from torch.nn import functional as F

    from synood_ray.config.models import LabelSettings
    from synood_ray.negatives.mining import load_candidates, mine

    folder = f"local-dir:{model_path('clip')}"
    model = open_clip.create_model(folder).float().eval()
    if seed:
        sibling = load_file(model_path("clip") / f"seed_{seed}.safetensors")
        model.load_state_dict({k: v.float() for k, v in sibling.items()}, strict=False)
    tokenizer = open_clip.get_tokenizer(folder)

    def encode_text(prompts: list[str]) -> Any:
        with torch.no_grad():
            return F.normalize(model.encode_text(tokenizer(prompts)), dim=-1)

    names = list(load_world().id)
    id_text = encode_text([PROMPT.format(n) for n in names])
    settings = LabelSettings(candidates=str(data_path("words.txt")), noun_prompt=PROMPT, keep=KEEP, groups=GROUPS)
    mined = mine(load_candidates(settings), names, id_text, encode_text, settings)
    return Bench(model, id_text, mined.features)


def neglabel(unit: Any, id_text: Any, negative_text: Any) -> Any:
    """Grouped NegLabel score of unit features [N, D]."""
    from synood_ray.scores import SCORES, ScoreInput

    return SCORES["neglabel"](ScoreInput.of_features(unit, id_text, negative_text, groups=GROUPS))


def auroc(id_scores: Any, ood_scores: Any) -> float:
    from synood_ray.detection.metrics import ood_metrics

    return float(ood_metrics(id_scores.numpy(), ood_scores.numpy())["auroc"])


def rows() -> list[Row]:
    import torch
    from torch.nn import functional as F

    from synood_ray.config.models import ScorerSettings
    from synood_ray.models.scorer import Scorer

    bench = load_bench()
    unit, labels = {}, {}
    for name in ("id_test", "id_unseen", "near_test", "near_unseen", "far_test"):
        data = read_images(name)
        unit[name], labels[name] = F.normalize(bench.encode(data.images), dim=-1), data.labels
    score = {name: neglabel(u, bench.id_text, bench.negative_text) for name, u in unit.items()}

    def top1(name: str) -> float:
        return float(((unit[name] @ bench.id_text.T).argmax(1) == labels[name]).float().mean())

    from synood_ray.scores import SCORES, ScoreInput

    power = {name: SCORES["energy"](ScoreInput.of_features(u, bench.id_text)) for name, u in unit.items()}
    folder = model_path("clip")
    images = torch.rand(16, 3, 64, 64)
    scorer = Scorer(ScorerSettings(model=str(folder), templates=[PROMPT]), list(load_world().id))  # as the farm has it
    return [
        at_least("ID top-1, training styles, fresh scenes", top1("id_test"), 0.75),
        at_least("ID top-1, unseen style", top1("id_unseen"), 0.55),
        at_least("NegLabel AUROC, far", auroc(score["id_test"], score["far_test"]), 0.95),
        between("NegLabel AUROC, near", auroc(score["id_test"], score["near_test"]), 0.70, 0.85),
        Row("NegLabel AUROC, near, unseen style", round(auroc(score["id_unseen"], score["near_unseen"]), 4), "", None),
        Row("energy AUROC, near", round(auroc(power["id_test"], power["near_test"]), 4), "", None),
        Row("energy AUROC, far", round(auroc(power["id_test"], power["far_test"]), 4), "", None),
        at_most("CLIP, MB", megabytes(*(f for f in folder.iterdir() if not f.name.startswith("seed_"))), 12),
        at_most("score and gradient, 16 images, s", _seconds(lambda: scorer.score_and_gradient(images)), 0.1),
    ]


def _seconds(call: Any, repeats: int = 5) -> float:
    """Median wall time of a call, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.monotonic()
        call()
        times.append(time.monotonic() - start)
    return statistics.median(times[1:])


def oracle_rows() -> list[Row]:
    """Real near images as outliers: what a perfect outlier synthesiser could gain.

    Half of the near classes (A) join the ID images in fine-tuning, the other half (B) is the test; the gain is over
    fine-tuning on the ID images alone. Mean over splits and CLIP seeds; interval from resampling classes.
    """
    import numpy as np

    gains, draws = [], []
    for seed in SEEDS:
        for split in range(SPLITS):
            gain, resampled = _oracle(seed, split)
            gains.append(gain)
            draws.append(resampled)
    mean = float(np.mean(gains)) * 100
    low, high = np.quantile(np.mean(draws, axis=0) * 100, [0.025, 0.975])
    return [
        at_least("oracle over ID-only, unseen near half, AUROC points", mean, 2.5),
        Row("  95 % interval over classes", f"{low:.2f} to {high:.2f}", "excludes 0", bool(low > 0)),
    ]


@lru_cache(maxsize=32)
def _features(seed: int, name: str) -> tuple[Any, Any]:
    data = read_images(name)
    return load_bench(seed).encode(data.images), data.labels


def _oracle(seed: int, split: int, resamples: int = 200) -> tuple[float, Any]:
    """One split: the gain in AUROC, and its class-bootstrap draws [resamples] (the same classes for every seed)."""
    import numpy as np
    import torch

    from synood_ray.config.settings import TrainingSettings
    from synood_ray.training.finetune import fine_tune
    from synood_ray.training.recipes import TrainingData

    bench, classes = load_bench(seed), len(load_world().near)
    half = torch.randperm(classes, generator=torch.Generator().manual_seed(split)) < classes // 2
    train, train_labels = _features(seed, "id_train")
    near, near_labels = _features(seed, "near_val")
    near = near[half[near_labels]]
    data = TrainingData(
        id_features=train,
        id_labels=train_labels,
        id_text=bench.id_text,
        negative_text=bench.negative_text,
        negative_norms=torch.ones(len(bench.negative_text)),
        ood_features=near,
        ood_negatives=(near @ bench.negative_text.T).argmax(1),
        companion_features=train[:0],
        companion_sources=train_labels[:0],
        far_features=train[:0],
    )
    test, test_labels = _features(seed, "id_test")
    unseen, unseen_labels = _features(seed, "near_test")
    unseen, unseen_labels = unseen[~half[unseen_labels]], unseen_labels[~half[unseen_labels]]
    settings = TrainingSettings(epochs=40, lr=2e-3, batch_size=64, label_epochs=0)  # the projector alone
    scores = []
    for each in (data, data.id_only()):
        tuned = fine_tune(each, settings, seed=split)
        with torch.no_grad():
            both = [neglabel(tuned.projector(x), bench.id_text, tuned.negative_text) for x in (test, unseen)]
        scores.append([s.numpy() for s in both])
    # comparing all pairs of images once makes every bootstrap draw a weighted mean
    wins = [_wins(known, other) for known, other in scores]
    gain = wins[0] - wins[1]
    rng = np.random.default_rng(split)
    draws = []
    for _ in range(resamples):
        known = np.bincount(rng.integers(0, 115, 115), minlength=115)[test_labels.numpy()]
        other = np.bincount(rng.choice(np.unique(unseen_labels), len(np.unique(unseen_labels))), minlength=classes)
        weight = np.outer(known, other[unseen_labels.numpy()])
        draws.append((gain * weight).sum() / weight.sum())
    return float(gain.mean()), np.array(draws)


def _wins(known: Any, other: Any) -> Any:
    """1 where the ID image [rows] scores above the OOD image [columns], 0.5 for a tie: its mean is the AUROC."""
    return (known[:, None] > other) + 0.5 * (known[:, None] == other)
