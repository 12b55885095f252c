"""What of a tower learns: nothing but what its variant names, and adapters begin as nothing."""

import pytest
import torch

from benchmarks.headroom import RANK, VARIANTS


def tower() -> torch.nn.Sequential:
    """In three pieces, as `Tower.late` has them: two stages, a pooling, a head."""
    torch.manual_seed(0)
    first = torch.nn.Sequential(torch.nn.Conv2d(3, 12, 1), torch.nn.Conv2d(12, 12, 3, groups=12))
    second = torch.nn.Sequential(torch.nn.Conv2d(12, 10, 1))
    pooled = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return torch.nn.Sequential(torch.nn.Sequential(first, second), pooled, torch.nn.Linear(10, 9)).requires_grad_(False)


@pytest.mark.parametrize(
    ("variant", "shapes"),
    [
        ("projector", []),
        ("tower's head", [(9, 10), (9,)]),
        ("tower's last block and head", [(10, 12, 1, 1), (10,), (9, 10), (9,)]),
        ("low-rank adapters", [(RANK, 3), (12, RANK), (RANK, 12), (10, RANK), (RANK, 10), (9, RANK)]),
    ],
)
def test_what_learns(variant: str, shapes: list[tuple[int, ...]]) -> None:
    late, images = tower(), torch.randn(2, 3, 5, 5)
    before = late(images)
    learning = VARIANTS[variant][0](late, 0)
    assert [tuple(each.shape) for each in learning] == shapes
    assert {id(each) for each in late.parameters() if each.requires_grad} == {id(each) for each in learning}
    assert torch.equal(late(images), before)
    if learning:
        rate = VARIANTS[variant][1]
        optimiser = torch.optim.Adam(learning, rate)
        late(images).sum().backward()
        optimiser.step()
        assert not torch.allclose(late(images), before)
