"""The residual projector on CLIP image features (SynOOD, ICCV 2025, arXiv 2507.10225)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Projector(nn.Module):
    """u = normalise(x + P(x)), P = ReLU(LayerNorm(Linear(x))): image features [B, D] -> unit features [B, D].

    As we start it, P sees the direction of x only and is scaled by one gate a channel that begins at zero: an
    untrained projector leaves every score as it was, whatever the norm of the model's features.
    ``released=True`` is the published form: x as the image tower gives it, no gate, default initialisation, so that
    features are already disturbed before the first step.

    Weights depend on ``seed`` alone, not on torch's global generator.
    """

    def __init__(self, width: int, *, released: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.released = released
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Parameter(torch.zeros(width), requires_grad=not released)

    def forward(self, features: Tensor) -> Tensor:
        if self.released:
            return F.normalize(features + torch.relu(self.norm(self.linear(features))), dim=-1)
        direction = F.normalize(features, dim=-1)
        return F.normalize(direction + self.gate * torch.relu(self.norm(self.linear(direction))), dim=-1)
