"""Against the formula written out with NumPy and scikit-learn's covariance and shrinkage."""

import numpy as np
import pytest
import torch
from sklearn.covariance import empirical_covariance, shrunk_covariance

from synood_ray.scores.mahalanobis import id_statistics, relative_mahalanobis


def distance(x: np.ndarray, centre: np.ndarray, precision: np.ndarray) -> float:
    return float((x - centre) @ precision @ (x - centre))


@pytest.mark.parametrize(("per_class", "width"), [(12, 5), (2, 30)])  # fewer images than dimensions: shrinkage helps
def test_relative_mahalanobis_equals_the_formula_written_out(per_class: int, width: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 3], per_class)  # a class of which there are no images
    features = rng.normal(size=(4, width))[labels] + 0.3 * rng.normal(size=(len(labels), width))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    means = {label: features[labels == label].mean(0) for label in (0, 1, 3)}
    centred = np.stack([x - means[label] for x, label in zip(features, labels, strict=True)])
    within = np.linalg.inv(shrunk_covariance(empirical_covariance(centred, assume_centered=True), 0.1))
    total = np.linalg.inv(shrunk_covariance(empirical_covariance(features), 0.1))
    seen = rng.normal(size=(6, width)) / width**0.5
    expected = [
        max(-distance(x, mean, within) for mean in means.values()) + distance(x, features.mean(0), total) for x in seen
    ]
    statistics = id_statistics(torch.tensor(features).float(), torch.tensor(labels))
    found = relative_mahalanobis(torch.tensor(seen).float(), statistics)
    assert found.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_by_hand_in_one_dimension() -> None:
    """Two classes at -1 and 1 with variance 0.01; all together have mean 0 and variance 1.01."""
    statistics = id_statistics(torch.tensor([[-1.1], [-0.9], [0.9], [1.1]]), torch.tensor([0, 0, 1, 1]))
    found = relative_mahalanobis(torch.tensor([[1.0], [0.8], [0.0]]), statistics)
    expected = [0 + 1 / 1.01, -0.04 / 0.01 + 0.64 / 1.01, -1 / 0.01 + 0]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
