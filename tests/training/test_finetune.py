from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from synood_ray.config.settings import TrainingSettings
from synood_ray.detection.projector import Projector
from synood_ray.training.finetune import Checkpoint, FineTuned, Workers, fine_tune
from synood_ray.training.outliers import far_outliers
from synood_ray.training.recipes import RECIPES
from tests.training.world import CLASSES, NEGATIVES, WIDTH, make_world

FAST = TrainingSettings(epochs=6, label_epochs=2, batch_size=32, lr=5e-3, label_lr=1e-3)
OFFICIAL = FAST.model_copy(update={"recipe": "official"})


def weights(tuned: FineTuned) -> torch.Tensor:
    return torch.cat([*(p.flatten() for p in tuned.projector.parameters()), tuned.negative_text.flatten()])


def test_the_settings_offer_exactly_the_recipes_of_the_table() -> None:
    assert get_args(TrainingSettings.model_fields["recipe"].annotation) == tuple(RECIPES)


def test_our_recipe_learns_the_boundary_and_keeps_what_it_knew() -> None:
    world = make_world()
    tuned = fine_tune(world.data, FAST)
    assert world.auroc(tuned, world.near_test) > world.auroc(None, world.near_test) + 0.1
    assert world.auroc(tuned, world.far_test) > world.auroc(None, world.far_test) - 0.03
    assert world.accuracy(tuned) >= world.accuracy(None) - 0.02
    assert tuned.history[FAST.epochs - 1] < tuned.history[0]


def test_outliers_are_what_helps() -> None:
    world = make_world()
    ours, id_only, far_only = (
        world.auroc(fine_tune(data, FAST), world.near_test)
        for data in (world.data, world.data.id_only(), world.data.far_only())
    )
    assert ours > max(id_only, far_only) + 0.1


def test_accepted_images_are_moved_by_what_their_sources_lose_when_regenerated() -> None:
    """Written out: images 0 and 2 have companions (2 has two of them), which differ in the last two directions."""
    world = make_world(per_class=1).data
    lost = torch.zeros(3, WIDTH)
    lost[0, -2], lost[1, -1], lost[2, -1] = 3.0, -1.0, 4.0
    sources = torch.tensor([2, 0, 2])
    data = replace(world, companion_features=world.id_features[sources] - lost, companion_sources=sources)
    expected = torch.zeros(WIDTH)
    expected[-2], expected[-1] = 1.0, 1.0  # 3 / 3 and (-1 + 4) / 3
    assert torch.allclose(data.domain_offset(), expected, atol=1e-5)
    assert data.companion_labels.tolist() == [2, 0, 2]

    known, accepted = CLASSES + 3, len(data.ood_features)
    moved, unmoved = (
        RECIPES["synood"](data, FAST.model_copy(update={"offset": offset})).projector_examples.features
        for offset in (True, False)
    )
    assert torch.allclose((moved - unmoved)[known : known + accepted], expected.expand(accepted, -1), atol=1e-5)
    assert torch.equal(moved[:known], unmoved[:known])  # real images and companions
    assert torch.equal(moved[known + accepted :], unmoved[known + accepted :])  # far outliers
    length = 2**0.5 / data.id_features.norm(dim=1).mean().item()
    assert fine_tune(data, FAST).offset == pytest.approx(length, rel=1e-4)
    official = RECIPES["official"](data, OFFICIAL).projector_examples.features
    assert torch.equal(official, torch.cat([data.id_features, data.ood_features]))
    assert fine_tune(data, OFFICIAL).offset == 0


def test_without_companions_nothing_is_moved() -> None:
    world = make_world(per_class=2).data
    none = {name: getattr(world, name)[:0] for name in ("companion_features", "companion_sources")}
    data = replace(world, **none)
    with_offset, without = (fine_tune(data, FAST.model_copy(update={"offset": offset})) for offset in (True, False))
    assert with_offset.offset == 0
    assert torch.equal(weights(with_offset), weights(without))


def test_far_images_survive_our_recipe_better_than_the_official_one() -> None:
    world = make_world()
    ours, official = (world.auroc(fine_tune(world.data, settings), world.far_test) for settings in (FAST, OFFICIAL))
    assert ours > official + 0.02


def test_official_projector_stage_is_the_released_script() -> None:
    """Full batches, written out a second time: un-normalised features, no gate, cosine once an epoch to 1e-5."""
    data = make_world(per_class=4).data
    settings = OFFICIAL.model_copy(update={"epochs": 3, "label_epochs": 0, "batch_size": 10_000, "lr": 1e-3})
    tuned = fine_tune(data, settings, seed=3)

    used = sorted(set(data.ood_negatives.tolist()))
    start = Projector(data.id_features.shape[1], released=True, seed=3)
    layers = torch.nn.Sequential(start.linear, start.norm, torch.nn.ReLU())
    text = torch.cat([data.id_text, data.negative_text[used]])
    targets = torch.cat([data.id_labels, torch.tensor([CLASSES + used.index(n) for n in data.ood_negatives.tolist()])])
    images = torch.cat([data.id_features, data.ood_features])
    adam = torch.optim.Adam(layers.parameters(), lr=1e-3, weight_decay=1e-5)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 3, 1e-5)
    for _ in range(3):
        moved = images + layers(images)
        loss = F.cross_entropy(100 * moved / moved.norm(dim=-1, keepdim=True) @ text.T, targets)
        adam.zero_grad()
        loss.backward()
        adam.step()
        falling.step()
    assert torch.allclose(tuned.projector.linear.weight, start.linear.weight, atol=1e-5)
    assert tuned.history[-1] == pytest.approx(loss.item(), rel=1e-4)


def test_official_label_stage_is_the_released_script() -> None:
    """SGD 2e-2, momentum .9, decay 1e-5 on features as long as the text tower gives them; only used labels in the
    softmax; cosine once an epoch to 0; images as the image tower gives them, normalised."""
    data = make_world(per_class=4).data
    settings = OFFICIAL.model_copy(update={"epochs": 1, "label_epochs": 5, "batch_size": 10_000, "label_lr": 2e-2})
    tuned = fine_tune(data, settings, seed=3)

    used = sorted(set(data.ood_negatives.tolist()))
    assert 1 < len(used) < NEGATIVES
    embeddings = (data.negative_text * data.negative_norms.unsqueeze(1))[used].clone().requires_grad_(True)
    label = torch.tensor([used.index(n) for n in data.ood_negatives.tolist()])
    sgd = torch.optim.SGD([embeddings], lr=2e-2, momentum=0.9, weight_decay=1e-5)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 5)
    for _ in range(5):
        image = data.ood_features / data.ood_features.norm(dim=-1, keepdim=True)
        loss = F.cross_entropy(100 * image @ (embeddings / embeddings.norm(dim=-1, keepdim=True)).T, label)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        falling.step()
    learnt = embeddings.detach()
    assert torch.allclose(tuned.negative_text[used], learnt / learnt.norm(dim=-1, keepdim=True), atol=1e-5)
    assert not torch.allclose(tuned.negative_text[used], data.negative_text[used], atol=1e-2)
    assert tuned.history[-1] == pytest.approx(loss.item(), rel=1e-4)
    unused = [n for n in range(NEGATIVES) if n not in used]
    assert torch.equal(tuned.negative_text[unused], data.negative_text[unused])


def test_longer_label_features_turn_more_slowly() -> None:
    """A gradient through the normalisation is divided by the length, and so is the turn that it makes."""
    data = make_world(per_class=4).data
    settings = OFFICIAL.model_copy(update={"epochs": 1, "label_epochs": 1, "batch_size": 10_000, "label_lr": 1e-4})
    short, long = (
        (fine_tune(replace(data, negative_norms=torch.full((NEGATIVES,), norm)), settings).negative_text)
        - data.negative_text
        for norm in (1.0, 10.0)
    )
    assert short.norm() / long.norm() == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("settings", [FAST, OFFICIAL], ids=["synood", "official"])
def test_the_seed_decides_everything(settings: TrainingSettings) -> None:
    data = make_world(per_class=5).data
    torch.manual_seed(1)
    first = fine_tune(data, settings, seed=7)
    torch.manual_seed(2)
    assert torch.equal(weights(first), weights(fine_tune(data, settings, seed=7)))
    assert not torch.equal(weights(first), weights(fine_tune(data, settings, seed=8)))


@pytest.mark.parametrize("settings", [FAST, OFFICIAL], ids=["synood", "official"])
@pytest.mark.parametrize("stop_after", [1, 4, 7])
def test_resuming_goes_on_bit_by_bit(settings: TrainingSettings, stop_after: int) -> None:
    data = make_world(per_class=5).data
    states: dict[int, Checkpoint] = {}
    whole = fine_tune(data, settings, on_epoch=states.__setitem__)
    assert list(states) == list(range(1, settings.epochs + settings.label_epochs + 1))
    resumed = fine_tune(data, settings, checkpoint=states[stop_after])
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.history == resumed.history


class Recorder(Workers):
    """Stands in for the other workers: adds what they recorded at the same call."""

    def __init__(self, rank: int, size: int, others: list[list[torch.Tensor]]) -> None:
        super().__init__(rank, size)
        self.others, self.calls = others, 0
        self.own: list[torch.Tensor] = []

    def sum(self, tensors: list[torch.Tensor]) -> None:
        self.own.append(torch.cat([t.detach().flatten() for t in tensors]).clone())
        if self.others:
            offset = 0
            for tensor in tensors:
                part = sum(other[self.calls][offset : offset + tensor.numel()] for other in self.others)
                tensor += part.view_as(tensor)  # type: ignore[union-attr]
                offset += tensor.numel()
        self.calls += 1


def test_workers_slices_add_up_to_the_whole_batch() -> None:
    """One step: the sum of two workers' gradients is the lone worker's gradient, though slices are uneven."""
    data = make_world(per_class=5).data
    settings = FAST.model_copy(update={"epochs": 1, "label_epochs": 0, "batch_size": 10_001})
    alone, first = Recorder(0, 1, []), Recorder(0, 2, [])
    fine_tune(data, settings, workers=alone)
    fine_tune(data, settings, workers=first)
    second = Recorder(1, 2, [first.own])
    together = fine_tune(data, settings, workers=second)
    assert torch.allclose(first.own[0] + second.own[0], alone.own[0], atol=1e-6)
    assert torch.allclose(weights(together), weights(fine_tune(data, settings)), atol=1e-5)


def test_a_worker_without_images_in_the_last_batch_still_takes_part() -> None:
    data = make_world(per_class=5).data.id_only()  # 60 images: a last batch of one
    settings = FAST.model_copy(update={"epochs": 1, "label_epochs": 0, "batch_size": 59})
    lone = Recorder(1, 2, [])
    fine_tune(data, settings, workers=lone)
    assert lone.calls == 3  # two steps and the loss
    assert lone.own[1].abs().sum() == 0


def test_no_id_images_is_refused() -> None:
    data = make_world(per_class=2).data
    with pytest.raises(ValueError, match="ID images"):
        fine_tune(replace(data, id_features=data.id_features[:0], id_labels=data.id_labels[:0]), FAST)


def test_far_outliers_swap_the_class_for_a_negative_label() -> None:
    world = make_world()
    data = world.data
    moved = data.far_features - data.id_features
    norms = data.id_features.norm(dim=1, keepdim=True)
    swapped = moved / norms + data.id_text[data.id_labels]
    distances = (swapped.unsqueeze(1) - data.negative_text).norm(dim=-1)
    assert distances.min(1).values.max() < 1e-5
    counts = distances.argmin(1).bincount(minlength=NEGATIVES)
    assert counts.max() - counts.min() <= 1  # all labels are dealt out before one comes again
    again = far_outliers(data.id_features, data.id_labels, data.id_text, data.negative_text)
    assert torch.equal(again, data.far_features)
