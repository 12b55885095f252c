"""OOD scores: from logits to one number an image, higher = more in-distribution."""
