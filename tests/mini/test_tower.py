"""The tower's training: what it is taught, and what keeps a drawing style from staying as it is."""

import torch

from synood_ray.mini.world import TRAINING_STYLES, load_world
from tools.mini_world.train_tower import MixStyle, recoloured, reshaped, taught


def test_no_class_of_either_split_is_taught() -> None:
    world = load_world()
    names = set(taught(world))
    assert len(names) > 1000
    assert not names & {*world.id, *world.near, *world.id_alternative, *world.near_alternative}
    assert all(set(world.concepts[name].styles) & set(TRAINING_STYLES) for name in names)


def test_mixed_features_lie_between_the_statistics_of_two_samples() -> None:
    torch.manual_seed(0)
    mix = MixStyle()
    mix.share = 1.0
    x = torch.stack([torch.randn(4, 8, 8), 5 + 3 * torch.randn(4, 8, 8)])
    mixed = mix.train()(x)
    low, high = x.mean((2, 3)).min(0).values, x.mean((2, 3)).max(0).values
    assert ((mixed.mean((2, 3)) >= low - 1e-4) & (mixed.mean((2, 3)) <= high + 1e-4)).all()
    pattern, kept = x - x.mean((2, 3), keepdim=True), mixed - mixed.mean((2, 3), keepdim=True)
    same = torch.nn.functional.cosine_similarity(pattern.flatten(2), kept.flatten(2), dim=2)
    assert (same > 0.999).all()  # only mean and spread are exchanged
    assert torch.equal(mix.eval()(x), x)


def test_disturbed_images_are_images() -> None:
    torch.manual_seed(0)
    x = torch.rand(32, 3, 96, 96)
    for change in (recoloured, reshaped):
        y = change(x)
        assert y.shape == x.shape and y.min() >= 0 and y.max() <= 1 and torch.isfinite(y).all()
        assert (y - x).abs().mean() > 0.02
