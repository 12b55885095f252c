"""Scenes from stand-in sprites: each a filled square of its own colour."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from synood_ray.errors import UserError
from synood_ray.mini.world import STYLES, load_world
from tools.mini_world.scenes import Layout, SceneComposer


@pytest.fixture
def composer(tmp_path: Path) -> SceneComposer:
    names = list(load_world().concepts)
    tensors: dict[str, torch.Tensor] = {}
    for key, side in (("big", 48), ("small", 24)):
        index = [(s, names.index(n)) for s in range(len(STYLES)) for n in ("fox", "wolf", *load_world().context)]
        sprites = torch.zeros(len(index), 4, side, side, dtype=torch.uint8)
        sprites[:, 3] = 255
        for row, (_, number) in enumerate(index):
            sprites[row, :3] = torch.tensor([255, 0, 255 if names[number] == "wolf" else 0])[:, None, None]
        tensors |= {key: sprites, f"{key}_index": torch.tensor(index)}
    save_file(tensors, tmp_path / "sprites.safetensors")
    return SceneComposer(tmp_path)


def test_same_seed_same_scenes(composer: SceneComposer) -> None:
    names = ["fox", None, "wolf", "fox"]
    one, same, other = (composer.batch(names, seed) for seed in (5, 5, 6))
    assert torch.equal(one.images, same.images) and one.contexts == same.contexts
    assert not torch.equal(one.images, other.images)


def test_box_and_alpha_hold_the_subject(composer: SceneComposer) -> None:
    scenes = composer.batch(["fox"] * 16, 1, layout=Layout(rotation=0))
    for image, alpha, (x0, y0, x1, y1) in zip(scenes.images, scenes.alpha, scenes.boxes.tolist(), strict=True):
        inside = image[:, y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
        assert (inside == torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None]).all()
        assert 34 - 2 <= x1 - x0 <= 42 + 2
        outside = alpha[0].clone()
        outside[y0:y1, x0:x1] = 0
        assert outside.max() <= 0.1


def test_scene_without_subject(composer: SceneComposer) -> None:
    scenes = composer.batch([None] * 8, 2)
    assert scenes.alpha.max() == 0
    assert all(1 <= len(c) <= 3 for c in scenes.contexts)
    assert ((scenes.boxes[:, 2:] - scenes.boxes[:, :2]) > 30).all()


def test_unknown_style_and_missing_sprites(composer: SceneComposer, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="bear"):
        composer.batch(["bear"], 0)
    with pytest.raises(UserError, match=r"tools\.mini_world\.render"):
        SceneComposer(tmp_path / "nothing")
