"""The recipes of boundary sampling on the same tasks, taking turns in one process, and what each has achieved."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from synood_ray.config.sampling import SamplingSettings
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.locations import resolve

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.scorer import Scorer
    from synood_ray.sampling.calibration import Calibration
    from synood_ray.sampling.prompts.base import Policy
    from synood_ray.sampling.sample import Refined, RefineTask

DATA = "mini://data/id_test.parquet"
HELD_OUT = "mini://data/id_val.parquet"
DRAWS = 4  # samples of one image, so that a class has pairs to compare
TURN = 92  # results of one recipe before the next has its turn; work in hand is carried over, which widens intervals


@dataclass
class Tally:
    """One recipe's results; a row of turns: accepted samples, CPU seconds of this process, denoiser calls."""

    turns: list[tuple[int, float, int]] = field(default_factory=list)
    results: list[Refined] = field(default_factory=list)

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        accepted, seconds, calls = np.array(self.turns, dtype=float).T
        return accepted, seconds, calls


class Bench:
    """The models, the boundary, and the tasks: `DRAWS` samples of the first image of every class."""

    def __init__(self, settings: Settings, samples: int, draws: int = DRAWS) -> None:
        import pyarrow.parquet as pq

        from synood_ray.data.source import open_source
        from synood_ray.farm.preparing import open_scorer, relatives
        from synood_ray.models.inpainters import open_inpainter
        from synood_ray.sampling.loader import SourceLoader
        from synood_ray.sampling.prompts import POLICIES
        from synood_ray.storage.stores import open_store

        self.settings = settings
        source = open_source(DATA, settings.data)
        images = source.scan().images
        self.class_names = [info.name for info in source.classes]
        self.inpainter = open_inpainter(settings.inpainter)
        with tempfile.TemporaryDirectory() as folder:
            store = open_store(folder)
            self.scorer = open_scorer(settings, store, self.class_names)
            related = relatives(settings, store, self.class_names, self.scorer)
        if self.scorer.clip is None:
            raise UserError("scorer.model: the sampling benchmark compares images by their features; name a CLIP")
        self.loader = SourceLoader(settings)
        contexts = pq.read_table(resolve(DATA), columns=["context"])["context"].to_pylist()
        policy = POLICIES[settings.prompts.policy](settings, related)
        first_of_class: dict[int, int] = {}
        for position, image in enumerate(images):
            first_of_class.setdefault(image.label, position)
        chosen = list(first_of_class.values())[: -(-samples // draws)]
        self.tasks = [
            self._task(images[position], policy, ", ".join(contexts[position]), draw)
            for draw in range(draws)
            for position in chosen
        ][:samples]
        self.label_of = {
            f"{images[position].key}#{draw}": images[position].label for draw in range(draws) for position in chosen
        }

    def _task(self, image: Any, policy: Policy, context: str, draw: int) -> RefineTask:
        from synood_ray.models.describers.base import Context
        from synood_ray.models.images import to_tensor
        from synood_ray.records import sample_seed
        from synood_ray.sampling.sample import RefineTask

        side = self.inpainter.resolution
        pixels = to_tensor([self.loader.image(image)], side)[0]
        seed = sample_seed(self.settings.seed, image.key, draw)
        painting = policy.paint(image, Context(context, context), self.class_names, seed)
        return RefineTask(f"{image.key}#{draw}", pixels, self.loader.mask(image, side), painting, seed)

    def calibrate(self, scorer: Scorer) -> Calibration:
        """The boundary of any scorer, on the held-out ID images."""
        from synood_ray.sampling.calibration import calibrate

        return calibrate(self.images(HELD_OUT), self.inpainter, scorer, self.settings, self.class_names)

    def images(self, uri: str, size: int = 32) -> Iterator[Tensor]:
        """Batches [B, 3, H, W] of a bundled set."""
        from synood_ray.data.source import open_source
        from synood_ray.models.images import to_tensor

        images = open_source(uri, self.settings.data, labelled=False).scan().images
        for start in range(0, len(images), size):
            chunk = [self.loader.image(image) for image in images[start : start + size]]
            yield to_tensor(chunk, self.inpainter.resolution)

    def run(self, recipes: Mapping[str, SamplingSettings], calibration: Calibration) -> dict[str, Tally]:
        """Every task through every recipe. Each has a stream of its own, as in a farm, and `TURN` results a turn."""
        from synood_ray.sampling.refine import Refiner

        refiners = {
            name: Refiner(self.inpainter, self.scorer, calibration, sampling) for name, sampling in recipes.items()
        }
        for refiner in refiners.values():  # oneDNN compiles every operation for every batch size, once a process
            list(refiner.run(self.tasks[: 2 * refiner.batch_size]))
        tallies = {name: Tally() for name in recipes}
        streams = {name: refiner.run(self.tasks) for name, refiner in refiners.items()}
        for _ in range(0, len(self.tasks), TURN):
            for name, stream in streams.items():
                calls, begin = self.inpainter.denoiser_calls, time.process_time()
                results = list(itertools.islice(stream, TURN))
                seconds = time.process_time() - begin
                accepted = sum(result.in_band for result in results)
                tallies[name].turns.append((accepted, seconds, self.inpainter.denoiser_calls - calls))
                tallies[name].results += results
        return tallies


class ByClass:
    """What one recipe's samples are like, a row a class [C], so that intervals can draw classes.

    samples, accepted: counts; judged: sum over accepted samples of the margin from an independent judge's own boundary;
    distance: mean pairwise CLIP distance (1 - cos) among the accepted samples, NaN for fewer than two; shows: accepted
    samples whose CLIP top-1 over ID classes and negative labels is still their own class.
    """

    def __init__(self, bench: Bench, tally: Tally, judge: Scorer, boundary: Calibration) -> None:
        import torch

        from synood_ray.models.scorer import verdicts_of

        groups: dict[int, list[Refined]] = defaultdict(list)
        for result in tally.results:
            groups[bench.label_of[result.key]].append(result)
        rows = []
        for label in sorted(groups):
            accepted = [result for result in groups[label] if result.in_band]
            row = [len(groups[label]), len(accepted), 0.0, float("nan"), 0]
            if accepted:
                images = torch.stack([result.image for result in accepted])
                row[2] = sum(boundary.margin(score) for score in judge.score(images).tolist())
                row[3] = _pairwise_distance(bench, images)
                logits = torch.stack([result.logits for result in accepted])
                labels = torch.full((len(accepted),), label)
                row[4] = int(verdicts_of(logits, labels, len(bench.class_names))[1].sum())
            rows.append(row)
        self.samples, self.accepted, self.judged, self.distance, self.shows = np.array(rows, dtype=float).T


def _pairwise_distance(bench: Bench, images: Tensor) -> float:
    import torch
    from torch.nn import functional as F

    if len(images) < 2:
        return float("nan")
    assert bench.scorer.clip is not None
    with torch.inference_mode():
        features = F.normalize(bench.scorer.clip.encode_images(images), dim=-1)
        return float((1 - features @ features.T).sum() / (len(images) * (len(images) - 1)))
