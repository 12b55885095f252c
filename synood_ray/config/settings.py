"""One tree of settings: every knob of synood_ray, with its meaning, unit and default.

A field marked ``operational`` changes how fast or where the work is done, never what comes out; all other
fields enter the run's fingerprint and must match when a run is resumed (see `synood_ray.config.fingerprint`).
This module imports pydantic only, so that ``--help`` and a wrong setting answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from synood_ray.config.fields import Gpus, Section, Share, before, operational
from synood_ray.config.models import (
    DescriberSettings,
    InpainterSettings,
    LabelSettings,
    Revision,
    ScoreName,
    ScorerSettings,
)
from synood_ray.config.pools import FarmSettings
from synood_ray.config.sampling import PromptSettings, SamplingSettings
from synood_ray.config.serving import ServingSettings
from synood_ray.errors import UserError

ProtocolName = Literal["openood-v1.5", "four-sets"]
"""The names of `synood_ray.detection.protocols.PROTOCOLS`."""


class DataSettings(Section):
    """Where the in-distribution (ID) images come from."""

    uri: str = Field("", description="folder of class folders, Parquet file or folder; local path, s3:// or mini://")
    class_names: str | None = Field(
        None,
        description="JSON or CSV file that maps a class folder (wnid) to its name; imagenet: the bundled ones; keys: "
        "folders are names; none: as keys, but ImageNet-1k's wnids are recognised",
    )
    image_column: str = Field("image", description="Parquet column that holds the image struct<bytes, path>")
    label_column: str = Field("label", description="Parquet column that holds the class")
    where: dict[str, str] = Field(
        {}, description="Parquet column -> values, with commas between: only those rows are taken, of calibration too"
    )
    calibration: str | None = Field(
        None, description="held-out ID images for the boundary, same formats as uri; none: a share of uri is held out"
    )
    holdout: Share = Field(0.2, description="share of a class held out for calibration when data.calibration is none")
    per_class: int = Field(50, ge=1, description="images kept per class: those with the most bytes per pixel")
    min_side: int = Field(16, ge=1, description="images with a shorter side are skipped, pixels")
    max_side: int = Field(16384, ge=1, description="images with a longer side are skipped, pixels")


class TrainingSettings(Section):
    """Fine-tuning of the residual projector and the negative-label features."""

    recipe: Literal["synood", "official"] = Field("synood", description="synood: ours; official: the released loss")
    epochs: int = Field(3, ge=1, description="passes over the images for the projector")
    label_epochs: int = Field(5, ge=0, description="passes for the negative-label features")
    batch_size: int = Field(128, ge=1, description="images per step, summed over workers")
    lr: float = Field(1e-3, gt=0.0, description="Adam learning rate of the projector")
    label_lr: float = Field(2e-2, gt=0.0, description="SGD learning rate of the negative-label features")
    weight_decay: float = Field(1e-5, ge=0.0, description="Adam weight decay")
    ood_weight: float = Field(1.0, ge=0.0, description="weight of the OOD images' loss beside the ID images'")
    keep_weight: float = Field(
        2.0, ge=0.0, description="synood: weight of staying close to the frozen CLIP's predictions; 0: free to forget"
    )
    offset: bool = Field(
        True, description="synood: move accepted images by what ID images lose when regenerated, given companions"
    )
    workers: int = operational(
        1, "training workers; one without GPUs trains in this process, others under Ray Train", ge=1
    )
    gpus: Gpus = operational(0.0, "GPUs per training worker: an integer, or a share of one")


class DetectorSettings(Section):
    """What the fine-tuned detector answers with. Its CLIP is the scorer's, or its own where a classifier scores."""

    model: str | None = Field(
        None, description="CLIP of the detector, of a run that is scored by a classifier; none: scorer.model"
    )
    pretrained: str | None = Field("openai", description="open_clip tag of detector.model; not used for a folder")
    revision: Revision = None
    score: ScoreName = Field("fused", description="OOD score of the detector, higher = more ID")


class EvaluationSettings(Section):
    """What synood evaluate measures, and on which test sets: name -> URI in the formats of data.uri."""

    id_test: str | None = Field(
        None, description="ID test images; none: the calibration images, and the report says so"
    )
    protocol: ProtocolName | None = Field(
        None, description="a public benchmark's test sets, in its own folders, in place of id_test, near and far"
    )
    root: str = Field("", description="folder that holds the sets of evaluation.protocol, local or s3://")
    near: dict[str, str] = Field({}, description="near-OOD test sets")
    far: dict[str, str] = Field({}, description="far-OOD test sets")
    where: dict[str, str] = Field({}, description="as data.where, of all test sets")
    detectors: dict[str, str] = Field({}, description="other detectors to compare with; run or detector folders")
    scores: list[ScoreName] = Field(
        ["mcm", "energy", "maxlogit", "neglabel"], description="baselines: OOD scores of the frozen CLIP"
    )
    prompts: Literal["paper", "run"] = Field(
        "paper",
        description="prompt of ID classes for a baseline: its own paper's where it has one, or scorer.templates",
    )
    artefacts: int = Field(
        0, ge=0, description="held-out ID images regenerated with the run's inpainter: how many of them count as OOD"
    )
    bootstrap: int = Field(1000, ge=0, description="class-bootstrap draws for the 95 % intervals; 0: none")
    seeds: int = Field(1, ge=1, description="with --controls: trainings of ours and of each control; means are given")


class LogSettings(Section):
    """Diagnostics of the driver and the workers, beside what commands print."""

    level: Literal["debug", "info", "warning", "error"] = operational("info", "lowest level that is logged")
    form: Literal["text", "json"] = operational("text", "text: for people; json: one JSON object per line")


class Settings(Section):
    """Everything that a run is made of."""

    preset: str = operational("", "name of the preset the settings started from")
    output: str = operational("", "run folder; local path or s3://")
    seed: int = Field(
        0, ge=0, le=2**63 - 1, description="root seed; a sample's own seed derives from it and its source"
    )
    limit: int | None = Field(None, ge=1, description="plan only the first N samples")
    data: DataSettings = DataSettings()
    describer: DescriberSettings = DescriberSettings()
    inpainter: InpainterSettings = InpainterSettings()
    scorer: ScorerSettings = ScorerSettings()
    prompts: PromptSettings = PromptSettings()
    sampling: SamplingSettings = SamplingSettings()
    labels: LabelSettings = LabelSettings()
    training: TrainingSettings = TrainingSettings()
    detector: DetectorSettings = DetectorSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    farm: FarmSettings = FarmSettings()
    serving: ServingSettings = ServingSettings()
    log: LogSettings = LogSettings()

    @property
    def clip(self) -> ScorerSettings:
        """The CLIP of negative labels, fine-tuning and evaluation: the scorer's, or the detector's own where a
        classifier scores. Raises UserError if there is none, or if there are two."""
        if not self.scorer.is_classifier:
            if self.detector.model not in (None, self.scorer.model):
                raise UserError("detector.model is for runs that a classifier scores; this one has scorer.model's CLIP")
            return self.scorer
        if self.detector.model is None:
            raise UserError("scorer.model names a classifier; set detector.model to the CLIP of the detector")
        own = {name: getattr(self.detector, name) for name in ("model", "pretrained", "revision")}
        return self.scorer.model_copy(update=own)


def from_stored(stored: Mapping[str, Any]) -> Settings:
    """Settings that were stored as JSON values. Raises UserError if this version does not know them."""
    filled = {**stored}
    sampling = {**stored.get("sampling", {})}
    if sampling.pop("strict", False):  # of version 0.1.0: one image at a time, for the same bytes every time
        sampling["batch_size"] = 1
    filled["sampling"] = sampling
    for name, values in before(Settings).items():
        filled[name] = {**values, **filled.get(name, {})}
    try:
        return Settings.model_validate(filled)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(f"the run's stored settings do not fit this version: {name}: {first['msg']}") from error
