"""Far outliers without far images: ID image features whose class is swapped for a negative label.

Fine-tuning on near-boundary images alone forgets what is far away (1 to 5 points of far AUROC in the miniature world).
Real
far images would help, but a user has none. CLIP's space offers a stand-in: x + |x| (n - t_y) moves an image's feature
from its class text t_y to the text n of a negative label and keeps everything else of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor


def far_outliers(
    id_features: Tensor, id_labels: Tensor, id_text: Tensor, negative_text: Tensor, seed: int = 0
) -> Tensor:
    """One outlier for every ID image: features [N, D] and labels [N] -> [N, D], un-normalised like the features.

    id_text [C, D] and negative_text [M, D] have unit length. Which negative label an image gets depends on the seed
    and the image's position; all labels are dealt out before one comes again.
    """
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-len(id_features) // len(negative_text))
    deck = torch.cat([torch.randperm(len(negative_text), generator=generator) for _ in range(rounds)])
    negatives = negative_text[deck[: len(id_features)].to(negative_text.device)]
    norms = torch.linalg.vector_norm(id_features, dim=-1, keepdim=True)
    return id_features + norms * (negatives - id_text[id_labels])
