"""Real images regenerated as what they are: one pass with their own name, no boundary, no scorer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from synood_ray.config.settings import Settings
from synood_ray.data.decode import UnusableImage
from synood_ray.models.images import to_tensor
from synood_ray.models.inpainters.base import Pass, Prompts
from synood_ray.records import SourceImage, sample_seed
from synood_ray.sampling.batches import full_size, in_full
from synood_ray.sampling.loader import SourceLoader
from synood_ray.sampling.prompts.base import own_painting

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.inpainters.base import Inpainter


def regenerate(sources: Sequence[SourceImage], settings: Settings, inpainter: Inpainter) -> Iterator[Tensor]:
    """A companion [3, H, W] in [0, 1] of every source, as the settings have a run's companions made, in their order.

    A source that cannot be read any longer, or has no mask, is left out. Its noise is that of the companion of
    its first sample.
    """
    import torch

    sampling, loader, side = settings.sampling, SourceLoader(settings), inpainter.resolution
    scheduler = inpainter.scheduler(sampling.solver)

    def readable() -> Iterator[tuple[SourceImage, Tensor, Tensor]]:
        for source in sources:
            try:
                yield source, to_tensor([loader.image(source)], side)[0], loader.mask(source, side)
            except (UnusableImage, OSError):
                continue

    for some, count in in_full(readable(), full_size(sampling.batch_size)):
        batch, images, masks = zip(*some, strict=True)
        canvas = inpainter.canvas(torch.stack(images), torch.stack(masks), sampling.strength)
        seeds = (sample_seed(settings.seed, source.key, 0) + 1 for source in batch)
        noise = [torch.randn(canvas.latents.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        names = [own_painting(settings.describer, source) for source in batch]
        z = inpainter.denoise(
            Pass(
                latents=canvas.latents,
                noise=torch.stack(noise).to(inpainter.device),
                canvas=canvas,
                prompts=Prompts.stack([name.condition(inpainter.encode_prompt) for name in names]),
                steps=sampling.steps,
                strength=sampling.strength,
                guidance=sampling.guidance,
                scheduler=scheduler,
                guided=sampling.guided,
            )
        )
        yield from inpainter.decode(z)[:count].cpu()
