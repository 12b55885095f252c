"""The refinement loop: denoise, score, step, until a sample sits on the boundary; the batch is refilled at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from synood_ray.config import SamplingSettings
from synood_ray.models.inpainter import Canvas, Inpainter, Pass, Prompts
from synood_ray.sampling.calibration import Calibration
from synood_ray.sampling.steps import newton_step, official_step, unit_rms

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_GAIN = 10.0
OFFICIAL_ROUNDS, OFFICIAL_STEPS, OFFICIAL_STRENGTH, OFFICIAL_GUIDANCE = 3, 20, 0.6, 8.0


class ImageScorer(Protocol):
    """What the loop asks of a scorer; in this process or behind an actor."""

    def score(self, images: Tensor) -> Tensor: ...

    def score_and_gradient(self, images: Tensor, objective: str = "score") -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, slots=True)
class RefineTask:
    """One image to bring to the boundary: image [3, H, W] in [0, 1], mask [1, H, W] with 1 = repaint.

    refine=False asks for one pass and no more: a regenerated ID companion, which carries the generator's
    artefacts and is otherwise an ID image (so that a detector does not learn the artefacts).
    """

    key: str
    image: Tensor
    mask: Tensor
    prompt: str
    seed: int
    refine: bool = True


@dataclass(slots=True)
class Refined:
    """What became of a task. image: the round nearest the boundary (the last one for `official`), [3, H, W]."""

    key: str
    image: Tensor
    score_trace: list[float]
    margin_trace: list[float]
    margin: float
    accepted: bool

    @property
    def rounds(self) -> int:
        return len(self.score_trace)


@dataclass(slots=True)
class _Active:
    """A sample that is being refined; every tensor has a batch dimension of 1."""

    task: RefineTask
    canvas: Canvas
    prompt: Prompts
    generator: torch.Generator
    noise: Tensor
    latents: Tensor  # what the next pass re-noises: the source, later the last round's result
    image: Tensor | None = None
    best: float = float("inf")
    gain: float = 1.0  # how much longer than the first-order step the next one has to be
    predicted: float = 0.0  # change of the score that the last step would have made, were the score linear
    scores: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)


class Refiner:
    """Runs one recipe on a stream of tasks.

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
        solver = None if self.official else settings.solver
        self.schedulers = inpainter.scheduler(solver), inpainter.scheduler(solver)

    def run(self, tasks: Iterable[RefineTask | None]) -> Iterator[Refined]:
        """Refine every task; yields a `Refined` for each, as soon as it is accepted or out of rounds."""
        stream = iter(tasks)
        active: list[_Active] = []
        more = True
        while more or active:
            more = self._refill(active, stream) if more else False
            if active:
                yield from self._round(active)

    # -- the batch -----------------------------------------------------------------------------------------------

    def _refill(self, active: list[_Active], stream: Iterator[RefineTask | None]) -> bool:
        """Fill the free slots; False once the stream has ended."""
        fresh: list[RefineTask] = []
        more = True
        while len(active) + len(fresh) < self.batch_size:
            try:
                task = next(stream)
            except StopIteration:
                more = False
                break
            if task is None:
                if active or fresh:
                    break
                continue
            fresh.append(task)
        active.extend(self._start(fresh))
        return more

    def _start(self, tasks: list[RefineTask]) -> list[_Active]:
        import torch

        if not tasks:
            return []
        masks = torch.stack([task.mask for task in tasks])
        if self.official:
            masks = torch.ones_like(masks)
        canvas = self.inpainter.canvas(torch.stack([task.image for task in tasks]), masks)
        started = []
        for index, task in enumerate(tasks):
            generator = torch.Generator().manual_seed(task.seed)
            shape = canvas.latents[index : index + 1].shape
            noise = torch.randn(shape, generator=generator).to(self.inpainter.device)
            prompt = self.inpainter.encode_prompt(task.prompt)
            own = canvas[index : index + 1]
            started.append(_Active(task, own, prompt, generator, noise, own.latents))
        return started

    # -- one round -------------------------------------------------------------------------------------------------

    def _round(self, active: list[_Active]) -> Iterator[Refined]:
        """Denoise, score and step all active samples once; those that are done leave the list."""
        import torch

        latents = self._denoise(active)
        if self.settings.recipe == "fresh":
            images = self.inpainter.decode(latents)
            scores = self.scorer.score(images)
            gradient = None
        else:
            images, pull_back = self.inpainter.decode_with_vjp(latents)
            scores, image_gradient = self.scorer.score_and_gradient(images, "official" if self.official else "score")
            gradient = pull_back(image_gradient)
        for index, sample in enumerate(active):
            self._record(sample, images[index], float(scores[index]))
        done = [self._is_done(sample) for sample in active]
        left = [index for index, is_done in enumerate(done) if not is_done]
        finished = [sample for sample, is_done in zip(active, done, strict=True) if is_done]
        active[:] = [active[index] for index in left]
        if left:
            chosen = torch.tensor(left)
            kept = None if gradient is None else gradient[chosen.to(gradient.device)]
            self._step(active, latents[chosen.to(latents.device)], kept, scores[left])
        for sample in finished:
            yield self._result(sample)

    def _denoise(self, active: list[_Active]) -> Tensor:
        """z_0 of every sample, in the order of ``active``: full passes and restarts share the UNet's batches."""
        import torch

        settings = self.settings
        first = OFFICIAL_STRENGTH if self.official else settings.strength
        later = settings.restart if settings.recipe == "newton" and settings.restart else first
        groups = [[s for s in active if not s.scores], [s for s in active if s.scores]]
        passes = [
            Pass(
                torch.cat([sample.latents for sample in group]),
                torch.cat([sample.noise for sample in group]),
                Canvas.stack([sample.canvas for sample in group]),
                Prompts.stack([sample.prompt for sample in group]),
                strength,
                scheduler,
            )
            for group, strength, scheduler in zip(groups, (first, later), self.schedulers, strict=True)
            if group
        ]
        steps = OFFICIAL_STEPS if self.official else settings.steps
        guidance = OFFICIAL_GUIDANCE if self.official else settings.guidance
        results = torch.cat(self.inpainter.denoise(passes, steps=steps, guidance=guidance))
        place = {id(sample): index for index, sample in enumerate(groups[0] + groups[1])}
        return results[[place[id(sample)] for sample in active]]

    def _record(self, sample: _Active, image: Tensor, score: float) -> None:
        margin = self.calibration.margin(score)
        sample.scores.append(score)
        sample.margins.append(margin)
        if self.official or abs(margin) < sample.best:
            sample.best = abs(margin)
            sample.image = image

    def _is_done(self, sample: _Active) -> bool:
        # The released recipe never stops early and keeps its last image, whatever its score.
        near = not self.official and abs(sample.margins[-1]) <= self.settings.band
        return near or not sample.task.refine or len(sample.scores) >= self.rounds

    def _step(self, active: list[_Active], latents: Tensor, gradient: Tensor | None, scores: Tensor) -> None:
        """Change the noise, or the image that is re-noised, of the samples that go on."""
        import torch

        settings = self.settings
        if gradient is None:
            for sample in active:
                sample.noise = torch.randn(sample.noise.shape, generator=sample.generator).to(sample.noise.device)
            return
        noise = torch.cat([sample.noise for sample in active])
        if self.official:
            noise = noise + official_step(gradient, self.inpainter.scaling_factor)
        else:
            mask = torch.cat([sample.canvas.mask for sample in active]).float()
            residual = self.calibration.tau - scores.to(gradient)
            for sample in active:
                self._learn_gain(sample)
            gains = torch.tensor([sample.gain for sample in active]).to(gradient)
            step = newton_step(gradient, residual * gains, mask, settings.max_step)
            for sample, change in zip(active, (step * gradient).flatten(1).sum(1).tolist(), strict=True):
                sample.predicted = change
            if settings.restart:
                for index, sample in enumerate(active):
                    sample.latents = (latents[index : index + 1] + step[index : index + 1]).to(sample.latents.dtype)
                return
            noise = unit_rms(noise + step)
        for index, sample in enumerate(active):
            sample.noise = noise[index : index + 1]

    def _learn_gain(self, sample: _Active) -> None:
        """Secant: compare what the last step did to the score with what it should have done to first order.

        The score bends within a small step and the denoiser takes part of the step back, so that the first-order
        step is too short by a factor that differs between samples.
        """
        if len(sample.scores) < 2:
            sample.gain = self.settings.gain
            return
        done = (sample.scores[-1] - sample.scores[-2]) / sample.predicted if sample.predicted else 1.0
        sample.gain = 1 / min(max(done, 1 / MAX_GAIN), 1.0)

    def _result(self, sample: _Active) -> Refined:
        assert sample.image is not None
        margin = min(sample.margins, key=abs) if not self.official else sample.margins[-1]
        accepted = abs(margin) <= self.settings.band
        return Refined(sample.task.key, sample.image.cpu(), list(sample.scores), list(sample.margins), margin, accepted)
