"""Fine-tuning on cached CLIP features: first the projector, then the used negative-label features. Plain torch, no Ray.

What the two stages train on, and with which loss, is the recipe's: `synood_ray.training.recipes`.

Batches, their order and the losses' scale depend on the seed and the whole batch, not on the number of workers: a
worker computes its slice of every batch, and gradients are summed. Resuming from a checkpoint continues bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from synood_ray.config.settings import TrainingSettings
from synood_ray.detection.projector import Projector
from synood_ray.scores import LOGIT_SCALE
from synood_ray.training.optimisers import Adam, Optimiser, Sgd
from synood_ray.training.recipes import RECIPES, SOME_NEGATIVE, Curriculum, Examples, TrainingData

MOMENTUM = 0.9

Checkpoint = dict[str, Tensor]
OnEpoch = Callable[[int, Checkpoint], None]
"""Called with the number of finished epochs (both stages counted on) and the state to continue from."""


@dataclass(frozen=True)
class FineTuned:
    """The trained projector, all negative-label features [M, D] (unit length), and the mean loss of every epoch.

    offset: length of the domain offset that accepted images were moved by, over the ID features' mean length.
    """

    projector: Projector
    negative_text: Tensor
    history: list[float]
    offset: float = 0.0


@dataclass(frozen=True)
class Workers:
    """Who trains together: this worker's rank among `size`. The default is one worker alone.

    `synood_ray.training.job` has the one that adds over torch.distributed.
    """

    rank: int = 0
    size: int = 1

    def sum(self, tensors: list[Tensor]) -> None:
        """Replace every tensor by its sum over all workers, in place."""


@dataclass
class _Progress:
    """Where training is: epochs done over both stages, and their losses."""

    epoch: int = 0
    history: list[float] = field(default_factory=list)


def fine_tune(
    data: TrainingData,
    settings: TrainingSettings,
    seed: int = 0,
    *,
    workers: Workers | None = None,
    checkpoint: Checkpoint | None = None,
    on_epoch: OnEpoch | None = None,
) -> FineTuned:
    """Train the projector for ``training.epochs``, then the negative-label features for ``training.label_epochs``.

    What they train on is the ``training.recipe``'s.

    Raises ValueError if there are no ID images.
    """
    if len(data.id_features) == 0:
        raise ValueError("fine-tuning needs ID images")
    curriculum = RECIPES[settings.recipe](data, settings)
    trainer = _Trainer(data, curriculum, settings, seed, workers or Workers(), on_epoch)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    trainer.train_projector()
    trainer.train_labels()
    return trainer.result()


class _Trainer:
    """Parameters, optimisers and the position in the two stages."""

    def __init__(
        self,
        data: TrainingData,
        curriculum: Curriculum,
        settings: TrainingSettings,
        seed: int,
        workers: Workers,
        on_epoch: OnEpoch | None,
    ) -> None:
        device = data.id_features.device
        self.data, self.curriculum, self.settings = data, curriculum, settings
        self.seed, self.workers, self.on_epoch = seed, workers, on_epoch
        columns, width = curriculum.columns, data.id_features.shape[1]
        self.frozen_text = torch.cat([data.id_text, data.negative_text[columns]])
        self.projector = Projector(width, released=curriculum.released_projector, seed=seed).to(device)
        self.stage = curriculum.label_stage
        self.labels = data.negative_text[columns] * self.stage.norms.unsqueeze(1)
        trained = [p for p in self.projector.parameters() if p.requires_grad]
        self.adam = Adam(trained, settings.lr, settings.weight_decay)
        self.sgd = Sgd([self.labels], settings.label_lr, self.stage.decay, MOMENTUM)
        # Only labels that some image is nearest to are used; the others stay where the text tower put them.
        used = torch.isin(columns, data.ood_negatives.to(device))
        self.used = used.unsqueeze(1).to(self.labels)
        self.progress = _Progress()

    def train_projector(self) -> None:
        epochs, rate = self.settings.epochs, self.curriculum.projector_rate
        for epoch in range(self.progress.epoch, epochs):

            def schedule(share: float, epoch: int = epoch) -> None:
                self.adam.lr = self.settings.lr * rate(epoch + share, epochs)

            self._epoch(self.curriculum.projector_examples, self.data.id_text, self.projector, self.adam, schedule)
        self.projector.eval().requires_grad_(False)
        self.labels.requires_grad_(True)

    def train_labels(self) -> None:
        pool = self.curriculum.label_examples
        if len(pool.features) == 0 or not self.used.any():
            return
        project = self.projector if self.stage.through_projector else _unit
        id_text = self.data.id_text if self.stage.id_texts else self.data.id_text[:0]
        first, epochs = self.settings.epochs, self.settings.label_epochs
        for epoch in range(self.progress.epoch - first, epochs):

            def schedule(share: float, epoch: int = epoch) -> None:
                self.sgd.lr = self.settings.label_lr * self.stage.rate(epoch + share, epochs)

            self._epoch(pool, id_text, project, self.sgd, schedule)

    def result(self) -> FineTuned:
        negative_text = self.data.negative_text.clone()
        negative_text[self.curriculum.columns] = F.normalize(self.labels.detach(), dim=-1)
        return FineTuned(self.projector, negative_text, self.progress.history, self._offset())

    def _offset(self) -> float:
        offset = self.curriculum.offset
        return 0.0 if offset is None else float(offset.norm() / self.data.id_features.norm(dim=-1).mean())

    def _epoch(
        self,
        pool: Examples,
        id_text: Tensor,
        project: Callable[[Tensor], Tensor],
        optimiser: Optimiser,
        schedule: Callable[[float], None],
    ) -> None:
        """One pass in an order that depends on the seed and the epoch alone; schedule is told the share done."""
        parameters = optimiser.parameters
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.progress.epoch)
        order = torch.randperm(len(pool.features), generator=generator).to(pool.features.device)
        total = torch.zeros((), device=pool.features.device)
        batches = order.split(self.settings.batch_size)
        for step, batch in enumerate(batches):
            schedule(step / len(batches))
            own = batch[self.workers.rank :: self.workers.size]
            optimiser.zero_grad()
            features = pool.features[own]
            loss = self._loss(id_text, features, project(features), pool.targets[own], pool.weights[own]) / len(batch)
            if len(own):  # a short last batch may leave nothing for this worker
                loss.backward()
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            if self.labels.grad is not None:  # in the label stage
                self.labels.grad *= self.used
            self.workers.sum([parameter.grad for parameter in parameters if parameter.grad is not None])
            optimiser.step()
            total += loss.detach() * len(batch)
        self.workers.sum([total])
        self.progress.history.append(float(total) / len(pool.features))
        self.progress.epoch += 1
        if self.on_epoch is not None:
            self.on_epoch(self.progress.epoch, self._state())

    def _loss(self, id_text: Tensor, features: Tensor, unit: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Sum of the examples' losses: weighted, plus what it costs to leave the frozen model's predictions.

        id_text [C, D] or [0, D]: the ID classes that take part; features [B, D]: as the image tower gives them; unit
        [B, D]: projected.
        """
        text = torch.cat([id_text, F.normalize(self.labels, dim=-1)])
        log_share = (LOGIT_SCALE * unit @ text.T).log_softmax(dim=-1)
        named = log_share.gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
        any_negative = torch.logsumexp(log_share[:, len(id_text) :], dim=-1)
        loss = -(weights * torch.where(targets == SOME_NEGATIVE, any_negative, named)).sum()
        if self.curriculum.keep_weight:
            before = (LOGIT_SCALE * _unit(features) @ self.frozen_text.T).log_softmax(dim=-1)
            loss = loss + self.curriculum.keep_weight * (before.exp() * (before - log_share)).sum()
        return loss

    def _state(self) -> Checkpoint:
        state = {f"projector.{name}": value for name, value in self.projector.state_dict().items()}
        state["labels"] = self.labels.detach()
        state["history"] = torch.tensor(self.progress.history, dtype=torch.float64)
        for prefix, optimiser in self._optimisers():
            for number, kept in enumerate(optimiser.state):
                state |= {f"{prefix}.{number}.{slot}": value for slot, value in kept.items()}
        return {name: value.detach().clone().cpu() for name, value in state.items()}

    def restore(self, state: Checkpoint) -> None:
        """Continue from what `_state` returned."""
        prefix = "projector."
        self.projector.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        with torch.no_grad():
            self.labels.copy_(state["labels"])
        self.progress = _Progress(len(state["history"]), state["history"].tolist())
        for name, optimiser in self._optimisers():
            slots: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                if key.startswith(f"{name}."):
                    _, number, slot = key.split(".")
                    slots.setdefault(int(number), {})[slot] = value if slot == "step" else value.to(self.labels)
            optimiser.state = [slots[number] for number in sorted(slots)]

    def _optimisers(self) -> tuple[tuple[str, Optimiser], ...]:
        return ("adam", self.adam), ("sgd", self.sgd)


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features, dim=-1)
