"""Which CLIP it is: more than its weights."""

import json
from pathlib import Path

import open_clip
import pytest
import torch

from synood_ray.config.models import ScorerSettings
from synood_ray.models.clip import ClipModel
from tests.detection.tiny_clip import save_tiny_clip


@pytest.mark.parametrize("in_memory", [False, True])
def test_activations_and_resizing_are_part_of_the_identity(tmp_path: Path, in_memory: bool) -> None:
    """By the files of a model's folder; by the modules of one without."""

    def loaded(section: str = "", **changes: object) -> ClipModel:
        folder = save_tiny_clip(tmp_path / (section or "plain"))
        file = folder / "open_clip_config.json"
        config = json.loads(file.read_text())
        config.get(section, {}).update(changes)
        file.write_text(json.dumps(config))
        if not in_memory:
            return ClipModel(ScorerSettings(model=str(folder), device="cpu"))
        return ClipModel(ScorerSettings(model="ViT-B-16", device="cpu"), open_clip.create_model(f"local-dir:{folder}"))

    plain, same = loaded(), loaded()
    quick, linear = loaded("model_cfg", quick_gelu=True), loaded("preprocess_cfg", interpolation="bilinear")
    assert plain.identity == same.identity
    assert len({one.identity for one in (plain, quick, linear)}) == 3
    weights = [list(one.model.state_dict().values()) for one in (plain, quick)]
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True))


def test_what_lies_beside_a_model_is_no_part_of_its_identity(tmp_path: Path) -> None:
    def loaded() -> ClipModel:
        return ClipModel(ScorerSettings(model=str(tmp_path), device="cpu"))

    other = save_tiny_clip(tmp_path / "other", seed=1) / "open_clip_model.safetensors"
    save_tiny_clip(tmp_path)
    plain = loaded()
    (tmp_path / "README.md").write_text("# A model")
    for name in ("a.safetensors", "model.safetensors"):  # open_clip takes neither beside open_clip_model.safetensors
        (tmp_path / name).write_bytes(other.read_bytes())
    beside = loaded()
    assert torch.equal(beside.encode_text(["kite"]), plain.encode_text(["kite"]))
    assert beside.identity == plain.identity
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert loaded().identity != plain.identity
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "open_clip_model.safetensors").write_bytes(other.read_bytes())
    assert loaded().identity != plain.identity == beside.identity
