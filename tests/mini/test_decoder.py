"""The decoder's fine-tuning: what it may change, and what its losses measure."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from synood_ray.mini import model_path
from tools.mini_world import train_decoder
from tools.mini_world.check_inpainting import structure

BUILT = (model_path("inpainting") / "vae" / "diffusion_pytorch_model.safetensors").exists()


@pytest.mark.skipif(not BUILT, reason="models not built")
def test_only_the_decoder_is_written_anew(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL
    from safetensors.torch import load_file

    folder = model_path("inpainting") / "vae"
    vae = AutoencoderKL.from_pretrained(folder).float()
    torch.manual_seed(0)
    decoder = AutoencoderKL.from_config(vae.config).decoder
    train_decoder.save(vae, decoder, tmp_path)
    old, new = (load_file(f / "diffusion_pytorch_model.safetensors") for f in (folder, tmp_path))
    assert old.keys() == new.keys()
    for name, tensor in old.items():
        assert tensor.dtype == new[name].dtype == torch.float16
        wanted = decoder.state_dict()[name.removeprefix("decoder.")].half() if name.startswith("decoder.") else tensor
        assert torch.equal(new[name], wanted), name
    assert (folder / "config.json").read_text() == (tmp_path / "config.json").read_text()


def test_the_laplacian_is_the_convolution() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 16, 16)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(3, 1, 3, 3)
    convolved = F.conv2d(images, kernel, groups=3)
    assert torch.allclose(train_decoder.laplacian(images), convolved, atol=1e-5)
    assert structure(images) == pytest.approx(convolved[..., 3:11, 3:11].abs().mean().item(), rel=1e-5)


def test_structure_may_lie_elsewhere_in_its_window_but_not_be_missing() -> None:
    line = torch.zeros(1, 3, 34, 34)
    line[..., 12] = 1
    shifted, faint, flat = line.roll(1, 3), line / 2, torch.zeros_like(line)
    lost = train_decoder.structure_loss(flat, line).item()
    # |Laplacian| of a line of height 1 is 1, 2, 1 across it: windows of 8 columns from columns 0, 4, 8, 12, 16, 20, 24
    # (of the 32 inner ones) hold sums 0, 4, 4, 0, 0, 0, 0 - eight columns, so means of 1/2
    assert lost == pytest.approx(2 * 0.5 / 7, rel=1e-5)
    assert train_decoder.structure_loss(faint, line).item() == pytest.approx(lost / 2, rel=1e-5)
    assert train_decoder.structure_loss(shifted, line).item() == pytest.approx(lost / 2, rel=1e-5)


def test_hinge_loss_stops_where_the_critic_is_sure() -> None:
    real, decoded = torch.tensor([3.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 1.0])
    assert train_decoder.critic_loss(real, decoded).item() == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3)


def test_the_critic_pulls_with_a_fixed_share_and_only_it_pulls_inventions_beyond_their_colours() -> None:
    torch.manual_seed(0)
    critic = train_decoder.Critic()
    output, target = torch.rand(4, 3, 40, 40) * 2 - 1, torch.rand(4, 3, 40, 40) * 2 - 1
    both, parts = train_decoder.decoder_gradient(critic, output, target, 2, 3)
    moved = target.clone()
    moved[3] += 0.1 * torch.randn(3, 40, 40)  # another picture ...
    moved[3] += F.interpolate(F.avg_pool2d(target[3:] - moved[3:], 4), scale_factor=4)[0]  # ... of the same colours
    again, same = train_decoder.decoder_gradient(critic, output, moved, 2, 3)
    assert torch.allclose(both, again, atol=1e-6) and parts == pytest.approx(same, rel=1e-4)
    assert set(parts) == {"regression", "structure", "matching", "colour"} and all(v > 0 for v in parts.values())


def test_critic_sees_patches_and_gives_the_features_of_every_layer() -> None:
    critic = train_decoder.Critic()
    verdicts, features = critic(torch.zeros(2, 3, 64, 64))
    assert verdicts.shape == (2, 1, 14, 14) and [f.shape[-1] for f in features] == [64, 32, 16, 16]
    image = torch.randn(1, 3, 64, 64, requires_grad=True)
    critic(image)[0][0, 0, 7, 7].backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0) > 0
    assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == 30
