"""One replica's detector: images are decoded side by side, and judged together with whatever else is waiting."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import synood_ray
from synood_ray.config.serving import ServingSettings
from synood_ray.detection.detector import Detector
from synood_ray.errors import UserError, first_line
from synood_ray.locations import without_credentials
from synood_ray.serving.answers import About, Explanation, Judgement
from synood_ray.serving.metrics import ServingMetrics
from synood_ray.serving.pictures import decode_square
from synood_ray.serving.rate import Rate
from synood_ray.serving.refused import Refused
from synood_ray.serving.uploads import Picture

RECALLS = (0.9, 0.95, 0.99)
"""Shares of held-out ID images for which the page about the service tells the threshold."""
HUB = "hf-hub:"
"""Before the id of a detector on the Hugging Face Hub."""

log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """Squares [side, side, 3] uint8 of a request that are judged together, and whether it wants to know why."""

    squares: list[np.ndarray]
    explain: bool


class Verdict(NamedTuple):
    """As `DetectorOutput`, of one image; why: if one of its batch asks."""

    score: float
    is_ood: bool
    name: str
    probability: float
    why: Explanation | None = None


def load_detector(run: str, settings: ServingSettings) -> Detector:
    """The detector of a run or of its folder, local or s3://, or ``hf-hub:USER/NAME``, at `serving.recall`.

    Raises UserError, one line.
    """
    if run.startswith(HUB):
        detector = Detector.from_pretrained(run.removeprefix(HUB), device=settings.device)
    else:
        detector = Detector.load(run, device=settings.device)
    if settings.recall is None:
        return detector
    try:
        return detector.at_recall(settings.recall)
    except ValueError as error:
        raise UserError(f"serving.recall: {error}") from error


Together = Callable[[Asked], Awaitable[list[Verdict | Refused]]]
AT_ONCE = 8
"""Pictures that are decoded in one go: few, so that small requests get their turn among large ones."""


class Service:
    """Judges encoded images. A picture that cannot be judged is its own affair, never its neighbours'.

    together: gathers what comes at about the same time, at most `serving.batch_size` squares in a call, and gives it
    to `batch`.
    """

    def __init__(
        self, detector: Detector, run: str, settings: ServingSettings, metrics: ServingMetrics, together: Together
    ) -> None:
        self.detector, self.run, self.settings, self.metrics = detector, run, settings, metrics
        self._together = together
        self.rate = Rate(settings.rate, settings.burst)
        self._side = detector.clip.preprocess.size
        self._decoders = ThreadPoolExecutor(max(1, math.ceil(settings.replicas.cpus)), "decode")
        self._model = ThreadPoolExecutor(1, "judge")  # one batch at a time: torch has the replica's CPUs for it

    def warm_up(self) -> None:
        """Judge a picture that nobody sent: the first one takes seconds that no client should wait for."""
        self._verdicts([np.zeros((self._side, self._side, 3), np.uint8)], explain=False)

    async def judge(self, pictures: Sequence[Picture], *, explain: bool) -> list[Judgement | Refused]:
        """Each picture's judgement, or why there is none, in order."""
        decoded = await self._run(self._decoders, self._decode, _parts(pictures, AT_ONCE))
        squares = [one for one in decoded if not isinstance(one, Refused)]
        parts = [Asked(part, explain) for part in _parts(squares, self.settings.batch_size)]
        found = await asyncio.gather(*map(self._together, parts))
        verdicts = iter([one for part in found for one in part])
        return [
            one if isinstance(one, Refused) else self._judgement(picture.name, next(verdicts), explain=explain)
            for picture, one in zip(pictures, decoded, strict=True)
        ]

    async def batch(self, asked: Sequence[Asked]) -> list[list[Verdict | Refused]]:
        """Judge all of it at once; a verdict or a refusal for each square, in order, all with reasons if one asks."""
        squares = [square for one in asked for square in one.squares]
        self.metrics.batch(len(squares))
        work = partial(self._verdicts, explain=any(one.explain for one in asked))
        found = iter(await self._run(self._model, work, [squares]))
        return [list(itertools.islice(found, len(one.squares))) for one in asked]

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[Any], list[Any]], parts: list[Any]) -> list[Any]:
        """What work makes of the parts, in threads of a pool, as one list."""
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(*(loop.run_in_executor(pool, work, part) for part in parts))
        return [one for part in found for one in part]

    def _decode(self, pictures: Sequence[Picture]) -> list[np.ndarray | Refused]:
        found: list[np.ndarray | Refused] = []
        for picture in pictures:
            try:
                found.append(decode_square(picture.data, self._side, self.settings.max_pixels))
            except Refused as refused:
                found.append(refused)
        return found

    def _judgement(self, name: str, found: Verdict | Refused, *, explain: bool) -> Judgement | Refused:
        if isinstance(found, Refused):
            return found
        return Judgement(
            name=name,
            score=found.score,
            is_ood=found.is_ood,
            threshold=self.detector.description.threshold,
            class_=found.name,
            probability=found.probability,
            explanation=found.why if explain else None,
        )

    def _verdicts(self, squares: list[np.ndarray], *, explain: bool) -> list[Verdict | Refused]:
        try:
            return list(_explained(self.detector, squares) if explain else _judged(self.detector, squares))
        except ValueError as error:  # a score that is no number: whose?
            if len(squares) > 1:
                return [self._verdicts([square], explain=explain)[0] for square in squares]
            log.error("an image was not judged: %s", first_line(error))
            return [Refused(500, "The image's score is no number; the detector is damaged.")]

    def about(self) -> About:
        """What is served, for whoever asks."""
        described, settings = self.detector.description, self.settings
        kept = RECALLS if self.detector.held_out_scores is not None else ()
        limits = ("max_bytes", "max_pixels", "max_images", "rate", "burst", "urls", "url_hosts")
        return About(
            version=synood_ray.__version__,
            run=without_credentials(self.run),
            model=described.model if described.pretrained is None else f"{described.model}, {described.pretrained}",
            detector=described.summary,
            classes=described.class_names,
            threshold=described.threshold,
            thresholds={f"{recall:g}": self.detector.at_recall(recall).description.threshold for recall in kept},
            notes=described.notes,
            limits=settings.model_dump(include=set(limits)),
        )


def _judged(detector: Detector, squares: list[np.ndarray]) -> Iterator[Verdict]:
    output = detector(squares, batch_size=len(squares))
    scores, ood, shares = output.score.tolist(), output.is_ood.tolist(), output.probability.tolist()
    return (Verdict(*one) for one in zip(scores, ood, output.name, shares, strict=True))


def _explained(detector: Detector, squares: list[np.ndarray]) -> Iterator[Verdict]:
    for one in detector.explain_each(squares, batch_size=len(squares)):
        found = dataclasses.asdict(one)
        why = Explanation(**{name: found[name] for name in Explanation.model_fields})
        yield Verdict(one.score, one.is_ood, one.name, one.probability, why)


def _parts(whole: Sequence[Any], size: int) -> list[Any]:
    """Cut into so many each, the last one shorter."""
    return [whole[at : at + size] for at in range(0, len(whole), size)]
