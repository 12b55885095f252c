import math

import pytest
import torch

from synood_ray.scores.joint import joint_score


def test_joint_is_the_log_probability_of_the_nearest_class_by_hand() -> None:
    known, negative = [24.0, 20.0], [21.0, 19.0, 10.0]
    total = sum(math.exp(logit / 2) for logit in known + negative)
    found = joint_score(torch.tensor([known]), torch.tensor([negative]))
    assert found.item() == pytest.approx(math.log(math.exp(24 / 2) / total), abs=1e-5)


def test_being_torn_between_two_classes_lowers_it() -> None:
    sure, torn = joint_score(torch.tensor([[24.0, 10.0], [24.0, 24.0]]), torch.full((2, 3), 15.0)).tolist()
    assert sure > torn + 0.5


def test_it_survives_large_logits() -> None:
    assert joint_score(torch.tensor([[1000.0]]), torch.tensor([[0.0]])).item() == pytest.approx(0, abs=1e-6)
