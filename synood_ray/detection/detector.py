"""The detector: what a run is for. Loaded in one line, called on images, answers ID or OOD and the class."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from synood_ray.config.models import ScorerSettings
from synood_ray.detection.description import DESCRIPTION, FOLDER, TRAIN_AGAIN, DetectorDescription
from synood_ray.detection.hub import CARD, OnHub
from synood_ray.errors import UserError
from synood_ray.scores import LOGIT_SCALE, SCORES, IdImages, ScoreInput
from synood_ray.scores.base import by_rows
from synood_ray.storage.intact import intact
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Put, Store

if TYPE_CHECKING:  # torch comes with the first detector, not with the import of its class
    import torch
    from PIL.Image import Image
    from torch import Tensor

    from synood_ray.detection.inputs import Images
    from synood_ray.detection.projector import Projector

_STATE = "score."
"""Before the names of what the score learned (`synood_ray.scores`), among the weights."""
_HELD_OUT = "held_out"
"""Among them: the scores of the held-out ID images [H], from the lowest."""
_SAME_MODEL = 0.02
"""Largest distance between a class text feature now and when the detector was trained (half precision: 0.002)."""


class ImageEncoder(Protocol):
    """The part of `synood_ray.models.clip.ClipModel` that a detector calls."""

    device: torch.device

    @property
    def preprocess(self) -> Any: ...

    def encode_images(self, images: Tensor) -> Tensor: ...

    def encode_classes(self, names: list[str], templates: list[str]) -> Tensor: ...


@dataclass(frozen=True)
class DetectorOutput:
    """score [B] float32, higher = more ID, from 0 to 1; is_ood [B] bool: score below the detector's threshold, which
    keeps 95 % of held-out ID images; label [B] int64: the nearest ID class; name: its name, B strings; probability [B]
    float32: of that class among the ID classes (softmax of `Detector.logits`); file: paths, "" where an image has none.
    """

    score: Tensor
    is_ood: Tensor
    label: Tensor
    name: list[str]
    probability: Tensor
    file: list[str]


@dataclass(frozen=True)
class Explanation:
    """Why one image is judged as it is.

    name: the nearest ID class; negative: the nearest negative label; similarity, negative_similarity: cosines of the
    projected image with their texts. probability, score, threshold, is_ood: as in `DetectorOutput`. parts: what the
    score is made of, by name, such as the six of ``fused``, in standard deviations from the mean of held-out ID
    images.
    """

    name: str
    probability: float
    similarity: float
    negative: str
    negative_similarity: float
    score: float
    threshold: float
    is_ood: bool
    parts: dict[str, float]


class Detector(OnHub, library_name="synood_ray", tags=["out-of-distribution-detection"], model_card_template=CARD):
    """CLIP image tower, residual projector, ID texts and negative labels; everything frozen.

        detector = Detector.load("runs/demo")
        detector(Image.open("photo.jpg")).is_ood

    id_text [C, D], negative_text [M, D]: L2-normalised. The score is ``description.score``, on projected features;
    state: what it learned from ID images (`with_score_of`). ``save_pretrained``, ``push_to_hub`` and
    ``from_pretrained`` are those of huggingface_hub (`synood_ray.detection.hub`).
    """

    def __init__(
        self,
        clip: ImageEncoder,
        projector: Projector,
        id_text: Tensor,
        negative_text: Tensor,
        description: DetectorDescription,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.clip = clip
        self.projector = projector.to(clip.device).eval().requires_grad_(False)
        self.id_text = id_text.detach().float().to(clip.device)
        self.negative_text = negative_text.detach().float().to(clip.device)
        self.description = description
        self.state = {name: value.to(clip.device) for name, value in (state or {}).items()}

    @classmethod
    def load(cls, uri: str | Path, *, device: str = "auto", clip: ImageEncoder | None = None) -> Detector:
        """Load from a detector folder or from the run folder that holds one; local path or s3://.

        clip: an encoder that is loaded already; it must be the detector's own model. Raises UserError if there is no
        detector, or if the model gives other features than the one that the detector was trained on.
        """
        store = open_store(str(uri), write=False)
        prefix = "" if store.exists(DESCRIPTION) else FOLDER
        if not store.exists(prefix + DESCRIPTION):
            raise UserError(f"{uri}: no {DESCRIPTION} here or in {FOLDER}; fine-tune first (synood finetune --run URI)")
        return cls.from_store(store, prefix, device=device, clip=clip)

    @classmethod
    def from_store(
        cls, store: Store, prefix: str = FOLDER, *, device: str = "auto", clip: ImageEncoder | None = None
    ) -> Detector:
        """As `load`, from an open store."""
        import torch
        from safetensors.torch import load

        from synood_ray.detection.projector import Projector

        with intact(store, prefix + DESCRIPTION, TRAIN_AGAIN):
            description = DetectorDescription.from_json(store.get(prefix + DESCRIPTION))
        with intact(store, prefix + description.weights, TRAIN_AGAIN):
            tensors = load(store.get(prefix + description.weights))
        if clip is None:
            from synood_ray.models.clip import ClipModel

            clip = ClipModel(
                ScorerSettings(
                    model=description.model,
                    pretrained=description.pretrained,
                    revision=description.revision,
                    templates=description.templates,
                    device=device,  # type: ignore[arg-type]
                )
            )
        id_text, negative_text = tensors.pop("id_text"), tensors.pop("negative_text")
        now = clip.encode_classes(description.class_names[:1], description.templates).cpu()
        if now.shape[1] != id_text.shape[1] or torch.linalg.vector_norm(now - id_text[:1]) > _SAME_MODEL:
            raise UserError(
                f"{store.uri}: the CLIP at hand is not the one that the detector was trained on ({description.model!r})"
            )
        state = {name.removeprefix(_STATE): tensors.pop(name) for name in list(tensors) if name.startswith(_STATE)}
        projector = Projector(id_text.shape[1], released=bool(tensors.pop("released")))
        projector.load_state_dict(tensors)
        return cls(clip, projector, id_text, negative_text, description, state)

    def save(self, target: Store | str | Path, prefix: str = FOLDER) -> None:
        """Write the weights, then detector.json, which names them: it is there or the detector is not.

        A folder or URI is written to directly (prefix ""). Raises UserError if another detector is there.
        """
        import torch
        from safetensors.torch import save

        if not isinstance(target, Store):
            target, prefix = open_store(str(target)), ""
        tensors = {name: value.cpu().contiguous() for name, value in self.projector.state_dict().items()}
        tensors["id_text"], tensors["negative_text"] = self.id_text.cpu(), self.negative_text.cpu()
        tensors["released"] = torch.tensor(self.projector.released)
        tensors |= {f"{_STATE}{name}": value.cpu().contiguous() for name, value in self.state.items()}
        data = save(tensors)
        # Named after its contents, so that what a crash or a second trainer left behind is never mistaken for it.
        description = replace(self.description, weights=f"weights-{hashlib.sha256(data).hexdigest()[:12]}.safetensors")
        target.put_new(prefix + description.weights, data)
        if target.put_new(prefix + DESCRIPTION, description.to_json()) is Put.DIFFERENT:
            raise UserError(f"{target.uri}: {prefix or 'this folder'} holds another detector; choose another folder")

    def with_threshold(self, threshold: float) -> Detector:
        """The same detector with another threshold: scores below it count as OOD."""
        description = replace(self.description, threshold=threshold)
        return Detector(self.clip, self.projector, self.id_text, self.negative_text, description, self.state)

    def at_recall(self, recall: float) -> Detector:
        """The same detector with the highest threshold that keeps this share of the held-out ID images, in (0, 1].

        Raises ValueError for another share, and for a detector of an earlier version, which has not kept their scores.
        """
        from synood_ray.detection.metrics import threshold_at

        if not 0 < recall <= 1:
            raise ValueError(f"recall is a share of ID images in (0, 1], not {recall}")
        if _HELD_OUT not in self.state:
            raise ValueError("this detector has not kept the scores of held-out ID images; fine-tune again for them")
        return self.with_threshold(threshold_at(self.state[_HELD_OUT].cpu().numpy(), recall))

    @property
    def held_out_scores(self) -> Tensor | None:
        return self.state.get(_HELD_OUT)

    def with_score_of(self, features: Tensor, labels: Tensor, held_out: Tensor, pool: Tensor | None = None) -> Detector:
        """The same detector, whose score has learned from the run's ID images, and its threshold from held-out ones.

        features [N, D], labels [N]; held_out [H, D], of which 95 % are kept: un-normalised CLIP image features. pool
        [P, D]: CSP's negative text, for the score that needs it.
        """
        import torch
        from torch.nn import functional as F

        from synood_ray.detection.metrics import RECALL

        with torch.inference_mode():
            images = IdImages(F.normalize(features, dim=-1).to(self.id_text), labels, self._look(held_out))
            state = SCORES[self.description.score].learned(images, pool)
            texts = self.id_text, self.negative_text
            learned = Detector(self.clip, self.projector, *texts, self.description, state)
            state |= {_HELD_OUT: learned.score_features(held_out).sort().values}
            return Detector(self.clip, self.projector, *texts, self.description, state).at_recall(RECALL)

    def __call__(self, images: Images, batch_size: int = 64) -> DetectorOutput:
        """Judge one image or many, as `synood_ray.detection.inputs` takes them: paths, encoded bytes, PIL images,
        arrays, tensors, lists of these, a folder. The same picture gets the same score whichever way it comes.

        Images are turned upright (EXIF), laid on white where they are transparent, and their centre square is judged.
        Results are on the CPU. Raises ValueError, one line, for what is no image, and for a score that is no number.
        """
        import torch

        parts = list(self.batches(images, batch_size))
        if not parts:
            raise ValueError("no images to judge")
        return DetectorOutput(
            torch.cat([part.score for part in parts]),
            torch.cat([part.is_ood for part in parts]),
            torch.cat([part.label for part in parts]),
            [name for part in parts for name in part.name],
            torch.cat([part.probability for part in parts]),
            [file for part in parts for file in part.file],
        )

    def batches(self, images: Images, batch_size: int = 64) -> Iterator[DetectorOutput]:
        """As a call, for more images than fit in memory: they are taken from an iterator as they are needed, and
        judged in batches (the last one may be smaller). What is drawn may be batches of arrays, as of a DataLoader."""
        from synood_ray.detection.inputs import pictures

        found, done = pictures(images), 0
        while batch := list(itertools.islice(found, batch_size)):
            yield self._judge(batch, done)
            done += len(batch)

    def logits(self, images: Images) -> Tensor:
        """Logits of the ID classes [B, C] of images that are taken as in a call."""
        import torch

        from synood_ray.detection.inputs import pictures

        with torch.inference_mode():
            return self.id_logits(self._encode([picture for _, picture in pictures(images)])).cpu()

    def _judge(self, batch: list[tuple[str, Image]], first: int) -> DetectorOutput:
        """One batch of paths and pictures; first: how many images came before it."""
        import torch

        with torch.inference_mode():
            seen = self._look(self._encode([picture for _, picture in batch]))
            return self._output(seen, [file for file, _ in batch], first)

    def _output(self, seen: ScoreInput, files: list[str], first: int) -> DetectorOutput:
        """What is answered to a batch, by what is seen of it."""
        logits = seen.id_logits.cpu()
        label = logits.argmax(dim=-1)
        probability = logits.softmax(dim=-1).gather(1, label[:, None])[:, 0]
        score = SCORES[self.description.score].answer(seen).cpu()
        if score.isnan().any():
            damaged = first + int(score.isnan().nonzero()[0])
            raise ValueError(f"the score of image {damaged} is no number; the CLIP or the detector is damaged")
        names = [self.description.class_names[i] for i in label.tolist()]
        return DetectorOutput(score, ~(score >= self.description.threshold), label, names, probability, files)

    def explain(self, image: Images) -> Explanation:
        """What the judgement on one image rests on. Raises ValueError as a call does, and for more than one image."""
        from synood_ray.detection.inputs import pictures

        found = list(itertools.islice(pictures(image), 2))
        if len(found) != 1:
            raise ValueError(f"explain takes one image, got {'more' if found else 'none'}")
        return self._explain(found, 0)[0]

    def explain_each(self, images: Images, batch_size: int = 64) -> list[Explanation]:
        """As `explain`, of many images, each encoded once and in batches, as in a call. Raises ValueError as a call
        does."""
        from synood_ray.detection.inputs import pictures

        found, told = pictures(images), list[Explanation]()
        while batch := list(itertools.islice(found, batch_size)):
            told += self._explain(batch, len(told))
        return told

    def _explain(self, batch: list[tuple[str, Image]], first: int) -> list[Explanation]:
        """As `_judge`, with the reasons."""
        import torch

        with torch.inference_mode():
            seen = self._look(self._encode([picture for _, picture in batch]))
            judged = self._output(seen, [file for file, _ in batch], first)
            similarity = (seen.id_logits.amax(dim=-1) / LOGIT_SCALE).tolist()
            closest = seen.negatives.max(dim=-1)
            negative, negative_similarity = closest.indices.tolist(), (closest.values / LOGIT_SCALE).tolist()
            parts = SCORES[self.description.score].parts
            made_of = {name: each.tolist() for name, each in parts(seen).items()} if parts else {}
        probability, score, is_ood = judged.probability.tolist(), judged.score.tolist(), judged.is_ood.tolist()
        return [
            Explanation(
                name=judged.name[i],
                probability=probability[i],
                similarity=similarity[i],
                negative=self.description.negative_words[negative[i]],
                negative_similarity=negative_similarity[i],
                score=score[i],
                threshold=self.description.threshold,
                is_ood=is_ood[i],
                parts={name: each[i] for name, each in made_of.items()},
            )
            for i in range(len(batch))
        ]

    def _encode(self, images: list[Image]) -> Tensor:
        """Un-normalised features [B, D] of RGB pictures."""
        from synood_ray.models.images import to_tensor

        return self.clip.encode_images(to_tensor(images, self.clip.preprocess.size).to(self.clip.device))

    def score_features(self, features: Tensor) -> Tensor:
        """Un-normalised CLIP image features [B, D] -> score [B]."""
        return by_rows(lambda part: SCORES[self.description.score].answer(self._look(part)), features)

    def id_logits(self, features: Tensor) -> Tensor:
        """Un-normalised CLIP image features [B, D] -> logits of the ID classes [B, C]."""
        return ScoreInput.of_features(self.projector(features.to(self.id_text.device)), self.id_text).id_logits

    def _look(self, features: Tensor) -> ScoreInput:
        from torch.nn import functional as F

        features = features.to(self.id_text.device)
        seen = ScoreInput.of_features(
            self.projector(features),
            self.id_text,
            self.negative_text,
            frozen=F.normalize(features, dim=-1),
            temperature=self.description.temperature,
            groups=self.description.groups,
        )
        return replace(seen, state=self.state)
