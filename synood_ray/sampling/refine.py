"""The refinement loop: denoise, score, step, until a sample sits on the boundary; its slot is refilled at once.

Ours (``newton``): one full pass; then a step along the score's gradient, too long on purpose, since the one solver step
that takes it back to the manifold undoes a part of it. From there the secant through two rounds says where to go, which
needs neither denoiser nor gradient: between them, once they lie on either side of the boundary, or else on beyond the
later one. Where that leads nowhere, the next step has a gradient of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from synood_ray.config.settings import SamplingSettings
from synood_ray.models.inpainters.base import Canvas, Inpainter, Pass, Prompts
from synood_ray.sampling.calibration import Calibration
from synood_ray.sampling.sample import Due, Refined, RefineTask, Sample
from synood_ray.sampling.steps import between, beyond, newton_step, official_loss, official_step

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.scorer import Objective

OFFICIAL_ROUNDS, OFFICIAL_STEPS, OFFICIAL_STRENGTH, OFFICIAL_GUIDANCE = 3, 20, 0.6, 8.0


class ImageScorer(Protocol):
    """What the loop asks of a scorer; in this process or behind an actor."""

    def score(self, images: Tensor) -> Tensor: ...

    def score_and_gradient(self, images: Tensor, objective: Objective | None = None) -> tuple[Tensor, Tensor]: ...


class Refiner:
    """Runs one recipe on a stream of tasks.

    Samples that wait for the same networks go through them together. A batch is run once it is full; new samples are
    taken in when none is. So every batch has ``batch_size`` samples, however differently they fare, and fewer than
    four times as many are in work (`Due` has four kinds of work), until the stream runs dry.

    ``tasks`` may yield None for "nothing at the moment": with samples in hand the loop goes on with those, with
    none it asks again (the iterator then waits). Results come in the order in which they finish.
    A sample's noise comes from its own seed, its step from its own gradient; the batch decides the speed only.
    """

    def __init__(
        self, inpainter: Inpainter, scorer: ImageScorer, calibration: Calibration, settings: SamplingSettings
    ) -> None:
        self.inpainter = inpainter
        self.scorer = scorer
        self.calibration = calibration
        self.settings = settings
        self.official = settings.recipe == "official"
        self.rounds = OFFICIAL_ROUNDS if self.official else settings.rounds
        self.batch_size = 1 if settings.strict else settings.batch_size
        self.scheduler = inpainter.scheduler(None if self.official else settings.solver)

    def run(self, tasks: Iterable[RefineTask | None]) -> Iterator[Refined]:
        """Refine every task; yields a `Refined` for each, as soon as it is accepted or out of rounds."""
        stream = iter(tasks)
        active: list[Sample] = []
        more = True
        while more or active:
            group = self._next_batch(active)
            if more and len(group) < self.batch_size:
                more = self._take_in(active, stream)
                group = self._next_batch(active)
            yield from self._advance(group, active)

    # -- the batches ---------------------------------------------------------------------------------------------

    def _next_batch(self, active: list[Sample]) -> list[Sample]:
        """Samples that wait for the same: a full batch, of what comes last in a round, or else the largest there is."""
        waiting = [[sample for sample in active if sample.due is due][: self.batch_size] for due in reversed(Due)]
        return max(waiting, key=len)  # the first of several

    def _take_in(self, active: list[Sample], stream: Iterator[RefineTask | None]) -> bool:
        """New samples, until a batch of them waits for the first pass; False once the stream has ended."""
        tasks: list[RefineTask] = []
        more = True
        room = self.batch_size - sum(sample.due is Due.PASS for sample in active)
        while len(tasks) < room:
            try:
                task = next(stream)
            except StopIteration:
                more = False
                break
            if task is not None:
                tasks.append(task)
            elif active or tasks:
                break
        active.extend(self._start(tasks))
        return more

    def _start(self, tasks: list[RefineTask]) -> list[Sample]:
        import torch

        if not tasks:
            return []
        masks = torch.stack([task.mask for task in tasks])
        if self.official:
            masks = torch.ones_like(masks)
        strength = OFFICIAL_STRENGTH if self.official else self.settings.strength
        canvas = self.inpainter.canvas(torch.stack([task.image for task in tasks]), masks, strength)
        started = []
        for index, task in enumerate(tasks):
            own = canvas[index : index + 1]
            generator = torch.Generator().manual_seed(task.seed)
            noise = torch.randn(own.latents.shape, generator=generator).to(self.inpainter.device)
            prompt = self.inpainter.encode_prompt(task.prompt)
            started.append(Sample(task, own, prompt, generator, noise, own.latents, own.latents))
        return started

    def _advance(self, group: list[Sample], active: list[Sample]) -> Iterator[Refined]:
        """What a batch waits for; samples that are done then leave ``active``."""
        if not group:
            return
        due = group[0].due
        if due in (Due.PASS, Due.RESTART):
            self._denoise(group, due)
            return
        self._judge(group, with_gradient=due is Due.STEER)
        finished = [sample for sample in group if self._is_done(sample)]
        active[:] = [sample for sample in active if sample not in finished]
        self._move([sample for sample in group if sample not in finished])
        yield from map(self._result, finished)

    # -- one round -------------------------------------------------------------------------------------------------

    def _denoise(self, group: list[Sample], due: Due) -> None:
        import torch

        settings = self.settings
        if self.official:
            walk, guided = (OFFICIAL_STEPS, OFFICIAL_STRENGTH, OFFICIAL_GUIDANCE), 1.0
        elif due is Due.PASS:
            walk, guided = (settings.steps, settings.strength, settings.guidance), settings.guided
        else:  # one solver step. It keeps what the first pass composed: guidance there moves the score away
            walk, guided = (round(1 / settings.restart), settings.restart, 1.0), 1.0
        result = self.inpainter.denoise(
            Pass(
                torch.cat([sample.latents for sample in group]),
                torch.cat([sample.noise for sample in group]),
                Canvas.stack([sample.canvas for sample in group]),
                Prompts.stack([sample.prompt for sample in group]),
                *walk,
                self.scheduler,
                guided,
            )
        )
        for sample, z in zip(group, result.split(1), strict=True):
            sample.put(z, Due.STEER if self._will_steer(sample) else Due.LOOK)

    def _will_steer(self, sample: Sample) -> bool:
        """Whether this round's gradient will most likely be used: it costs three times what looking alone does.

        After the first round two of three samples need it, after a later one few: `_move_newton` asks then.
        """
        if self.settings.recipe == "fresh" or not sample.task.refine or len(sample.scores) + 1 >= self.rounds:
            return False
        return self.official or not sample.scores

    def _judge(self, group: list[Sample], with_gradient: bool) -> None:
        """Decode and score every z_0, and differentiate the score on the way."""
        import torch

        z = torch.cat([sample.z for sample in group])
        if with_gradient:
            images, pull_back = self.inpainter.decode_with_vjp(z)
            objective = official_loss if self.official else None
            scores, image_gradient = self.scorer.score_and_gradient(images, objective)
            for sample, gradient in zip(group, pull_back(image_gradient).split(1), strict=True):
                sample.gradient = gradient
        else:
            images = self.inpainter.decode(z)
            scores = self.scorer.score(images)
        for sample, image, score in zip(group, images, scores.tolist(), strict=True):
            if not sample.judged:  # it may have come back for the gradient alone
                self._record(sample, image, score)

    def _record(self, sample: Sample, image: Tensor, score: float) -> None:
        margin = self.calibration.margin(score)
        if self.official or not sample.margins or abs(margin) < min(map(abs, sample.margins)):
            sample.image = image
        sample.scores.append(score)
        sample.margins.append(margin)
        sample.judged = True
        sample.bracket(self.calibration.tau)

    def _is_done(self, sample: Sample) -> bool:
        # The released recipe never stops early and keeps its last image, whatever its score.
        near = not self.official and abs(sample.margins[-1]) <= self.settings.band
        return near or not sample.task.refine or len(sample.scores) >= self.rounds

    # -- what changes before the next round --------------------------------------------------------------------------

    def _move(self, group: list[Sample]) -> None:
        import torch

        if self.official:
            for sample in group:
                assert sample.gradient is not None
                sample.noise = sample.noise + official_step(sample.gradient, self.inpainter.scaling_factor)
                sample.due = Due.PASS
        elif self.settings.recipe == "fresh":
            for sample in group:
                sample.noise = torch.randn(sample.noise.shape, generator=sample.generator).to(sample.noise.device)
                sample.due = Due.PASS
        else:
            self._move_newton(group)

    def _move_newton(self, group: list[Sample]) -> None:
        """Between two rounds on either side of the boundary, if there are such; else on, or along a new gradient."""
        import torch

        tau = self.calibration.tau
        steered: list[tuple[Sample, Tensor]] = []
        for sample in group:
            score = sample.scores[-1]
            if sample.below is not None and sample.above is not None:
                sample.put(between(*sample.below, *sample.above, tau), Due.LOOK)
            elif sample.stepped is not None and abs(score - tau) < abs(sample.stepped[0] - tau):
                sample.put(beyond(*sample.stepped, score, sample.z, tau), Due.LOOK)
                sample.stepped = None
            elif sample.gradient is None:
                sample.due = Due.STEER
            else:
                steered.append((sample, sample.gradient))
        if not steered:
            return
        z = torch.cat([sample.z for sample, _ in steered])
        gradient = torch.cat([gradient for _, gradient in steered])
        mask = torch.cat([sample.canvas.mask for sample, _ in steered]).float()
        residual = torch.tensor([self.settings.gain * (tau - sample.scores[-1]) for sample, _ in steered]).to(gradient)
        step = newton_step(gradient, residual, mask, self.settings.max_step)
        for (sample, _), latents in zip(steered, (z + step).to(z.dtype).split(1), strict=True):
            sample.stepped = sample.scores[-1], sample.z
            sample.latents, sample.gradient, sample.due = latents, None, Due.RESTART

    def _result(self, sample: Sample) -> Refined:
        assert sample.image is not None
        margin = min(sample.margins, key=abs) if not self.official else sample.margins[-1]
        accepted = abs(margin) <= self.settings.band
        return Refined(sample.task.key, sample.image.cpu(), list(sample.scores), list(sample.margins), margin, accepted)
