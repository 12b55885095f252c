"""The refinement loop: denoise, score, move, until a sample's recipe is done with it; its slot is refilled at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from synood_ray.config.sampling import SamplingSettings
from synood_ray.models.inpainters.base import Canvas, Inpainter, Pass, Prompts
from synood_ray.sampling.batches import filled, full_size
from synood_ray.sampling.calibration import Calibration
from synood_ray.sampling.recipes import RECIPES
from synood_ray.sampling.sample import Due, Kept, Refined, RefineTask, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.scorer import Judged, Objective


class ImageScorer(Protocol):
    """What the loop asks of a scorer; in this process or behind an actor."""

    def judge(self, images: Tensor) -> Judged: ...

    def judge_with_gradient(self, images: Tensor, objective: Objective | None = None) -> tuple[Judged, Tensor]: ...


class Refiner:
    """Runs one recipe on a stream of tasks.

    Samples that wait for the same networks go through them together. A batch is run once it is full; new samples are
    taken in when none is. So batches are full, however differently samples fare, and fewer than four times
    ``batch_size`` are in work, until the stream runs dry. Then copies of a batch's last sample fill it up: a network
    sees batches of one size only at a given point of a sample's way, and a sample's bytes are the same in all of them.
    The size is ``batch_size`` for a full pass and its judgement, which all samples come to, and a quarter of it (`few`)
    for what follows a move, where few wait at a time and full batches would be copies for the most part.

    ``tasks`` may yield None for "nothing at the moment": with samples in hand the loop goes on with those, with
    none it asks again (the iterator then waits). Results come in the order in which they finish.
    A sample's noise comes from its own seed, its step from its own gradient.
    """

    def __init__(
        self, inpainter: Inpainter, scorer: ImageScorer, calibration: Calibration, settings: SamplingSettings
    ) -> None:
        self.inpainter = inpainter
        self.scorer = scorer
        self.calibration = calibration
        self.recipe = RECIPES[settings.recipe](settings, calibration, inpainter)
        self.batch_size = full_size(settings.batch_size)
        self.few = full_size(-(-settings.batch_size // 4))
        self.scheduler = inpainter.scheduler(self.recipe.solver)

    def run(self, tasks: Iterable[RefineTask | None]) -> Iterator[Refined]:
        """Refine every task; yields a `Refined` for each, as soon as it is accepted or out of rounds."""
        stream = iter(tasks)
        active: list[Sample] = []
        more = True
        while more or active:
            group = self._next_batch(active)
            if more and len(group) < self._size(group):
                more = self._take_in(active, stream)
                group = self._next_batch(active)
            yield from self._advance(group, active)

    # -- the batches ---------------------------------------------------------------------------------------------

    def _next_batch(self, active: list[Sample]) -> list[Sample]:
        """Samples that wait for the same: a full batch, of what comes last in a round, or else the fullest there is."""
        waiting = []
        for moved in (True, False):
            for due in reversed(Due):
                size = self.few if moved else self.batch_size
                waiting.append([sample for sample in active if sample.due is due and sample.moved is moved][:size])
        return max(waiting, key=lambda group: len(group) / self._size(group))  # the first of several

    def _size(self, group: list[Sample]) -> int:
        """Samples in a batch of this kind."""
        return self.few if group and group[0].moved else self.batch_size

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
        full = filled(tasks, self.batch_size)
        masks = self.recipe.mask(torch.stack([task.mask for task in full]))
        strength = self.recipe.walks[Due.PASS].strength
        canvas = self.inpainter.canvas(torch.stack([task.image for task in full]), masks, strength)
        started = []
        for index, task in enumerate(tasks):
            own = canvas[index : index + 1]
            generator = torch.Generator().manual_seed(task.seed)
            noise = torch.randn(own.latents.shape, generator=generator).to(self.inpainter.device)
            prompt = task.painting.condition(self.inpainter.encode_prompt)
            memory = self.recipe.memory()
            started.append(Sample(task, own, prompt, generator, noise, own.latents, own.latents, memory=memory))
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
        going_on = [sample for sample in group if sample not in finished]
        if going_on:
            self.recipe.move(going_on)
            for sample in going_on:
                sample.moved = sample.due is not Due.PASS
        yield from map(self._result, finished)

    # -- one round -------------------------------------------------------------------------------------------------

    def _denoise(self, group: list[Sample], due: Due) -> None:
        walk = self.recipe.walks[due]
        full = filled(group, self._size(group))
        prompts = Prompts.stack([sample.prompt for sample in full])
        result = self.inpainter.denoise(
            Pass(
                latents=_stacked([sample.latents for sample in full]),
                noise=_stacked([sample.noise for sample in full]),
                canvas=Canvas.stack([sample.canvas for sample in full]),
                prompts=prompts if due is Due.PASS else prompts.at(1.0),  # a restart is the end of a pass
                steps=walk.steps,
                strength=walk.strength,
                guidance=walk.guidance,
                scheduler=self.scheduler,
                guided=walk.guided,
                copies=len(full) - len(group),
            )
        )
        for sample, z in zip(group, result.split(1), strict=False):
            may_go_on = sample.task.refine and len(sample.scores) + 1 < self.recipe.rounds
            sample.put(z, Due.STEER if may_go_on and self.recipe.steers(sample) else Due.LOOK)

    def _judge(self, group: list[Sample], with_gradient: bool) -> None:
        """Decode and score every z_0, and differentiate the score on the way."""
        z = _stacked([sample.z for sample in filled(group, self._size(group))])
        if with_gradient:
            images, pull_back = self.inpainter.decode_with_vjp(z)
            judged, image_gradient = self.scorer.judge_with_gradient(images, self.recipe.objective)
            for sample, gradient in zip(group, pull_back(image_gradient).split(1), strict=False):
                sample.gradient = gradient
        else:
            images = self.inpainter.decode(z)
            judged = self.scorer.judge(images)
        found = zip(group, judged.scores.tolist(), images, judged.logits, judged.features, strict=False)
        for sample, score, image, logits, feature in found:
            if not sample.judged:  # it may have come back for the gradient alone
                self._record(sample, score, image, logits, feature)

    def _record(self, sample: Sample, score: float, image: Tensor, logits: Tensor, feature: Tensor) -> None:
        margin = self.calibration.margin(score)
        if self.recipe.prefers(sample, margin):
            sample.kept = Kept(image, margin, logits, feature)
        sample.scores.append(score)
        sample.margins.append(margin)
        sample.judged = True

    def _is_done(self, sample: Sample) -> bool:
        return self.recipe.done(sample) or not sample.task.refine or len(sample.scores) >= self.recipe.rounds

    def _result(self, sample: Sample) -> Refined:
        kept = sample.kept
        assert kept is not None
        return Refined(
            key=sample.task.key,
            image=kept.image.cpu(),
            margin=kept.margin,
            logits=kept.logits.cpu(),
            feature=kept.feature.cpu(),
            score_trace=list(sample.scores),
            margin_trace=list(sample.margins),
            in_band=self.recipe.in_band(kept.margin),
        )


def _stacked(rows: list[Tensor]) -> Tensor:
    """Tensors [1, …] as one, in one memory layout whatever theirs are: kernels, and so their rounding, go by it."""
    import torch

    return torch.cat(rows).contiguous()
