"""A detector to try an installation with: on the bundled miniature CLIP, as `synood finetune` saves it."""

from __future__ import annotations

from pathlib import Path

JUDGE = """
import sys
from PIL import Image
from synood_ray import Detector
from synood_ray.errors import UserError
found = Detector.load(sys.argv[1])(Image.open(sys.argv[2]))
print("score", *found.score.tolist(), *found.name)
assert not {"ray", "diffusers", "pyarrow", "boto3", "vllm"} & {name for name, module in sys.modules.items() if module}
try:
    Detector.load("s3://runs/demo")
except UserError as error:
    assert "pip install 'synood_ray[farm]'" in str(error), error
else:
    raise AssertionError("boto3 is here")
"""
"""``python -c JUDGE DETECTOR IMAGE``: loads, judges, and says how to get what S3 needs; nothing heavy is loaded."""


def save_mini_detector(folder: Path) -> list[str]:
    """Save an untrained detector on two classes and an image; returns the paths of both."""
    import torch
    from PIL import Image

    from synood_ray.config.models import ScorerSettings
    from synood_ray.detection.description import DetectorDescription
    from synood_ray.detection.detector import Detector
    from synood_ray.detection.projector import Projector
    from synood_ray.models.clip import ClipModel

    templates = ["a photo of a {}."]
    clip = ClipModel(ScorerSettings(model="mini://models/clip", pretrained=None, templates=templates))
    classes, negatives = ["cat", "dog"], ["chair", "cloud", "spoon", "train"]
    description = DetectorDescription(
        recipe="synood",
        class_names=classes,
        negative_words=negatives,
        negative_kinds=["noun"] * len(negatives),
        groups=2,
        threshold=0.5,
        model="mini://models/clip",
        pretrained=None,
        templates=templates,
    )
    texts = [clip.encode_classes(names, templates) for names in (classes, negatives)]
    torch.manual_seed(0)
    Detector(clip, Projector(texts[0].shape[1]), *texts, description).save(folder / "detector")
    Image.effect_noise((80, 60), 50).convert("RGB").save(folder / "image.png")
    return [str(folder / "detector"), str(folder / "image.png")]
