"""The optimiser: orthogonal updates for matrices and convolutions, Adam elsewhere, state that survives a checkpoint."""

from pathlib import Path

import torch

from tools.mini_world.muon import Muon, orthogonalised
from tools.mini_world.training import load_checkpoint, save_checkpoint


def test_orthogonalised_has_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((16, 40), (40, 16)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert values.min() > 0.6 and values.max() < 1.35


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(2, 8, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(8 * 16, 3))


def train(model: torch.nn.Module, optimiser: Muon, steps: int) -> float:
    generator = torch.Generator().manual_seed(1)
    inputs, wanted = torch.randn(32, 2, 4, 4, generator=generator), torch.randn(32, 3, generator=generator)
    loss = torch.zeros(())
    for _ in range(steps):
        loss = (model(inputs) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item()


def test_learns_and_resumes_where_it_stopped(tmp_path: Path) -> None:
    straight = network()
    optimiser = Muon(straight.named_parameters(), (1e-2, 1e-2))
    first = train(straight, optimiser, 1)
    train(straight, optimiser, 9)
    save_checkpoint(tmp_path / "c.safetensors", 10, straight, network(), optimiser)
    last = train(straight, optimiser, 20)
    assert last < 0.5 * first

    resumed, average = network(), network()
    again = Muon(resumed.named_parameters(), (1e-2, 1e-2))
    assert load_checkpoint(tmp_path / "c.safetensors", resumed, average, again) == 10
    assert train(resumed, again, 20) == last
