"""A score that learns from ID images, as the scorer of a run: learned once, stored, the same as on the frozen CLIP."""

from pathlib import Path

import pytest
import torch

from synood_ray.config import Settings
from synood_ray.detection.methods import frozen_methods
from synood_ray.detection.run_images import RunImages
from synood_ray.errors import UserError
from synood_ray.farm.preparing import open_scorer
from synood_ray.negatives.csp import csp_labels
from synood_ray.negatives.mining import NegativeLabels
from synood_ray.storage import layout
from synood_ray.storage.run import Run
from synood_ray.storage.stores.base import Store
from tests.detection.tiny_clip import save_tiny_clip
from tests.training.run_folder import COLOURS, make_run, make_settings

NAMES = sorted(COLOURS)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = make_settings(tmp_path, str(save_tiny_clip(tmp_path / "clip")))
    settings.scorer.score = "fused"
    return settings


@pytest.fixture
def store(settings: Settings) -> Store:
    return make_run(settings)


def test_a_runs_scorer_learns_from_its_id_images_once(store: Store, settings: Settings) -> None:
    scorer = open_scorer(settings, store, NAMES)
    stored = store.get(layout.SCORE)
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    score, gradient = scorer.score_and_gradient(images)
    assert torch.isfinite(gradient).all() and (gradient.flatten(1).norm(dim=1) > 0).all()
    assert torch.equal(open_scorer(settings, store, NAMES).score(images), scorer.score(images))
    assert store.get(layout.SCORE) == stored

    clip = scorer.clip
    assert clip is not None
    settings.evaluation.scores = ["fused"]
    negatives = NegativeLabels.from_bytes(store.get(layout.NEGATIVES)).features
    own = RunImages(Run.open(store), settings, clip, lambda line: None)
    methods, notes = frozen_methods(settings, clip, NAMES, negatives, own.learned_from, pytest.fail)
    assert not notes
    assert torch.allclose(methods["fused"].score(clip.encode_images(images)), score, rtol=1e-3, atol=1e-2)


def test_too_few_id_images_are_the_users_to_change(store: Store, settings: Settings) -> None:
    with pytest.raises(UserError, match=r"scorer\.score: fused needs .* of every class; 'yak' has 0"):
        open_scorer(settings, store, [*NAMES, "yak"])
    assert not store.exists(layout.SCORE)


def test_a_runs_scorer_has_the_pool_that_its_evaluation_has(store: Store, settings: Settings) -> None:
    settings.scorer.score, settings.evaluation.scores, settings.evaluation.prompts = "csp", ["csp"], "run"
    scorer = open_scorer(settings, store, NAMES)
    clip = scorer.clip
    assert clip is not None
    pool = csp_labels(settings, store, NAMES, clip)
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    methods, _ = frozen_methods(settings, clip, NAMES, pool.features, pytest.fail, lambda: pool.features)
    score, gradient = scorer.score_and_gradient(images)
    assert torch.allclose(methods["csp"].score(clip.encode_images(images)), score, atol=1e-4)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
