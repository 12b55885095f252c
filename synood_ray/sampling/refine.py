"""The refinement loop: denoise, score, step, until a sample sits on the boundary; the batch is refilled at once.

Ours (``newton``): one full pass; then steps along the score's gradient, too long on purpose, since the one solver step
that takes each back to the manifold undoes a part of it; once a sample has been on both sides of the boundary, points
between those two rounds, which need neither denoiser nor gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from synood_ray.config import SamplingSettings
from synood_ray.models.inpainter import Canvas, Inpainter, Pass, Prompts
from synood_ray.sampling.calibration import Calibration
from synood_ray.sampling.steps import between, newton_step, official_step

if TYPE_CHECKING:
    import torch
    from torch import Tensor

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
    latents: Tensor  # where the next round starts: the source, later the last round's result and a step
    below: tuple[float, Tensor] | None = None  # score and z_0 of the last round on this side of the boundary
    above: tuple[float, Tensor] | None = None
    z: Tensor | None = None  # this round's z_0
    gradient: Tensor | None = None  # dS/dz_0, where a step may need it
    image: Tensor | None = None
    best: float = float("inf")
    scores: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)

    @property
    def bracketed(self) -> bool:
        """Both sides of the boundary are known: the latents lie between two rounds, and are decoded as they are."""
        return self.below is not None and self.above is not None


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
        strength = OFFICIAL_STRENGTH if self.official else self.settings.strength
        canvas = self.inpainter.canvas(torch.stack([task.image for task in tasks]), masks, strength)
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
        self._denoise([sample for sample in active if not sample.bracketed])
        steered, others = [s for s in active if self._will_steer(s)], [s for s in active if not self._will_steer(s)]
        self._look(steered, with_gradient=True)
        self._look(others, with_gradient=False)
        finished = [sample for sample in active if self._is_done(sample)]
        active[:] = [sample for sample in active if not self._is_done(sample)]
        if self.official:
            self._step_official(active)
        elif self.settings.recipe == "fresh":
            self._step_fresh(active)
        else:
            self._step_newton(active)
        for sample in finished:
            yield self._result(sample)

    def _will_steer(self, sample: _Active) -> bool:
        """Whether this round's gradient will most likely be used: it costs three times what looking alone does.

        After the first round five of six samples need it, after a later one two of five: `_step_newton` asks then.
        """
        if self.settings.recipe == "fresh" or not sample.task.refine or len(sample.scores) + 1 >= self.rounds:
            return False
        return self.official or not sample.scores

    def _denoise(self, active: list[_Active]) -> None:
        """z_0 of every sample: full passes and restarts share the UNet's batches."""
        import torch

        settings = self.settings
        first, guided = (settings.steps, settings.strength, settings.guidance), settings.guided
        if self.official:
            first, guided = (OFFICIAL_STEPS, OFFICIAL_STRENGTH, OFFICIAL_GUIDANCE), 1.0
        # A restart is one solver step. It keeps what the first pass composed: guidance there moves the score away.
        later = (round(1 / settings.restart), settings.restart, 1.0) if settings.recipe == "newton" else first
        groups = [[s for s in active if not s.scores], [s for s in active if s.scores]]
        passes = [
            Pass(
                torch.cat([sample.latents for sample in group]),
                torch.cat([sample.noise for sample in group]),
                Canvas.stack([sample.canvas for sample in group]),
                Prompts.stack([sample.prompt for sample in group]),
                *walk,
                scheduler,
                guided,
            )
            for group, walk, scheduler in zip(groups, (first, later), self.schedulers, strict=True)
            if group
        ]
        if not passes:
            return
        results = torch.cat(self.inpainter.denoise(passes))
        for sample, z in zip(groups[0] + groups[1], results.split(1), strict=True):
            sample.z = z

    def _look(self, group: list[_Active], with_gradient: bool) -> None:
        """Decode and score a group's z_0, and differentiate the score on the way if the next step will need it."""
        import torch

        if not group:
            return
        z = torch.cat([sample.latents if sample.bracketed else _present(sample.z) for sample in group])
        for sample, own in zip(group, z.split(1), strict=True):
            sample.z = own
        if with_gradient:
            images, scores = self._differentiate(group)
        else:
            images = self.inpainter.decode(z)
            scores = self.scorer.score(images)
        for sample, image, score in zip(group, images, scores.tolist(), strict=True):
            self._record(sample, image, score)

    def _differentiate(self, group: list[_Active]) -> tuple[Tensor, Tensor]:
        """The gradient of every z_0 of a group, kept with its sample; returns images and scores on the way."""
        import torch

        images, pull_back = self.inpainter.decode_with_vjp(torch.cat([_present(sample.z) for sample in group]))
        objective = "official" if self.official else "score"
        scores, image_gradient = self.scorer.score_and_gradient(images, objective)
        for sample, gradient in zip(group, pull_back(image_gradient).split(1), strict=True):
            sample.gradient = gradient
        return images, scores

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

    # -- what changes before the next round --------------------------------------------------------------------------

    def _step_fresh(self, active: list[_Active]) -> None:
        import torch

        for sample in active:
            sample.noise = torch.randn(sample.noise.shape, generator=sample.generator).to(sample.noise.device)

    def _step_official(self, active: list[_Active]) -> None:
        for sample in active:
            sample.noise = sample.noise + official_step(_present(sample.gradient), self.inpainter.scaling_factor)

    def _step_newton(self, active: list[_Active]) -> None:
        """Between two rounds on either side of the boundary, if there are such; else along the gradient, to tau."""
        import torch

        tau = self.calibration.tau
        free: list[_Active] = []
        for sample in active:
            self._bracket(sample, tau)
            if sample.below is not None and sample.above is not None:
                sample.latents = between(*sample.below, *sample.above, tau)
            else:
                free.append(sample)
        if not free:
            return
        if unsteered := [sample for sample in free if sample.gradient is None]:
            self._differentiate(unsteered)
        z = torch.cat([_present(sample.z) for sample in free])
        gradient = torch.cat([_present(sample.gradient) for sample in free])
        mask = torch.cat([sample.canvas.mask for sample in free]).float()
        residual = torch.tensor([self.settings.gain * (tau - sample.scores[-1]) for sample in free]).to(gradient)
        step = newton_step(gradient, residual, mask, self.settings.max_step)
        for sample, latents in zip(free, (z + step).to(z.dtype).split(1), strict=True):
            sample.latents, sample.gradient = latents, None

    def _bracket(self, sample: _Active, tau: float) -> None:
        """Take this round in as one end of the bracket.

        Illinois rule: an end that stays a second time counts as half as far from the boundary, or the other end would
        creep towards it (the score bends).
        """
        score, before = sample.scores[-1], sample.scores[-2] if sample.bracketed else tau
        below, above = sample.below, sample.above
        if score < tau:
            below = score, _present(sample.z)
            above = (tau + (above[0] - tau) / 2, above[1]) if above and before < tau else above
        else:
            above = score, _present(sample.z)
            below = (tau + (below[0] - tau) / 2, below[1]) if below and before > tau else below
        sample.below, sample.above = below, above

    def _result(self, sample: _Active) -> Refined:
        assert sample.image is not None
        margin = min(sample.margins, key=abs) if not self.official else sample.margins[-1]
        accepted = abs(margin) <= self.settings.band
        return Refined(sample.task.key, sample.image.cpu(), list(sample.scores), list(sample.margins), margin, accepted)


def _present(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor
