import pytest
import torch
from torch.nn import functional as F

from synood_ray.scores import SCORES, IdImages, ScoreInput


def test_csp_is_the_share_of_id_among_each_group_of_the_pool() -> None:
    g = torch.Generator().manual_seed(0)
    unit, id_text, pool = (F.normalize(torch.randn(n, 8, generator=g), dim=1) for n in (5, 3, 7))
    seen = ScoreInput.of_features(unit, id_text, groups=2)
    state = SCORES["csp"].learned(IdImages(unit, torch.arange(5), seen), pool)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0)).view(2, 3)  # the seventh is dropped
    mass = (100 * unit @ id_text.T).exp().sum(1)
    groups = [(100 * unit @ pool[group].T).exp().sum(1) for group in order]
    expected = sum(mass / (mass + other) for other in groups) / 2
    looked = ScoreInput(seen.id_logits, groups=2, state=state, unit=unit)
    assert torch.allclose(SCORES["csp"](looked), expected, atol=1e-6)
    with pytest.raises(ValueError, match="CSP's pool of negative labels is needed"):
        SCORES["csp"].learned(IdImages(unit, torch.arange(5), seen))
