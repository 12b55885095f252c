"""One tree of settings: every knob of synood_ray, with its meaning, unit and default.

A field marked ``operational`` changes how fast or where the work is done, never what comes out; all other
fields enter the run's fingerprint and must match when a run is resumed (see `synood_ray.config.fingerprint`).
This module imports pydantic only, so that ``--help`` and a wrong setting answer at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator

from synood_ray.config.fields import Device, Gpus, Section, Share, before, operational
from synood_ray.config.sampling import PromptSettings, SamplingSettings
from synood_ray.config.serving import ServingSettings
from synood_ray.errors import UserError

ScoreName = Literal[
    "mcm",
    "msp",
    "energy",
    "maxlogit",
    "neglabel",
    "csp",
    "joint",
    "mahalanobis",
    "margin",
    "fused",
]
"""The names of `synood_ray.scores.SCORES`."""

ProtocolName = Literal["openood-v1.5", "four-sets"]
"""The names of `synood_ray.detection.protocols.PROTOCOLS`."""

DType = Literal["auto", "float32", "bfloat16", "float16"]


def _template(*holders: str) -> AfterValidator:
    """A string that must contain its place holders, such as {subject}."""

    def check(text: str) -> str:
        for holder in holders:
            if holder not in text:
                raise ValueError(f"must contain {holder}, but is {text!r}")
        return text

    return AfterValidator(check)


def _about_word(text: str) -> str:
    """A prompt that is filled in by str.format with one word: {} once or more, {{ and }} for braces."""
    try:
        filled = text.format("\0")
    except (ValueError, LookupError, AttributeError) as error:
        raise ValueError(
            f"{text!r} must have {{}} for the word, and no other braces (a brace is written twice)"
        ) from error
    if "\0" not in filled:
        raise ValueError(f"must contain {{}}, but is {text!r}")
    return text


def _server(address: str | None) -> str | None:
    """A server's base URL. What is wrong with it is told without showing it: a password may be in it."""
    if address is None:
        return None
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises where it is none
    except ValueError:
        parts = urlsplit("http:")
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://, such as http://host:8000/v1")
    if not parts.hostname or "@" in parts.path or re.search(r"\s", address):
        raise ValueError("is no URL such as http://host:8000/v1 (in a password write / ? # @ as %2F %3F %23 %40)")
    return address


AboutSubject = Annotated[str, _template("{subject}")]
AboutContext = Annotated[str, _template("{context}")]
AboutWord = Annotated[str, AfterValidator(_about_word)]
Revision = Annotated[
    str | None,
    Field(
        description="branch, tag or commit of a model of the hub; none: main. A run keeps to the commit that this "
        "stands at when it begins"
    ),
]


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


class DescriberSettings(Section):
    """The multimodal LLM that names an image's context without its subject."""

    model: str = Field("Qwen/Qwen2.5-VL-7B-Instruct", description="local folder, mini:// or hub id, served by vLLM")
    revision: Revision = None
    endpoint: Annotated[str | None, AfterValidator(_server)] = operational(
        None, "base URL of an OpenAI-compatible server (…/v1) that serves model, instead of an engine of its own"
    )
    contexts: str | None = Field(
        None, description="JSONL file (image path -> context) or prompts folder of another run, instead of a model"
    )
    question: str = Field(
        "List the things in this image, except the {subject}. Answer with short names separated by commas.",
        description="what the model is asked; {subject} is the class name",
    )
    check_question: AboutSubject = Field(
        "Does this image show a {subject}? Answer yes or no.",
        description="the semantic check on an accepted image; {subject} is the class name",
    )
    neighbour_question: AboutSubject = Field(
        "What looks like a {subject} but is not one? Answer with short names separated by commas.",
        description="with prompts.named_by describer: what is asked besides",
    )
    box_question: AboutSubject = Field(
        'Where is the {subject}? Answer with its bounding box as JSON: [{"bbox_2d": [x1, y1, x2, y2]}]',
        description="with sampling.find_boxes: what is asked besides",
    )
    box_unit: Literal["pixels", "thousandths"] = Field(
        "pixels",
        description="of the numbers in that answer: pixels of the image that the model sees (Qwen2.5-VL), or "
        "thousandths of its sides (Qwen2-VL, Qwen3-VL)",
    )
    prompt: AboutContext = Field(
        "A photo of {context}.", description="prompt of the diffusion model; {context} is the answer"
    )
    context_tokens: int = Field(
        60, ge=1, description="longest context, tokens of CLIP's tokenizer, which Stable Diffusion shares"
    )
    max_new_tokens: int = Field(64, ge=1, description="longest answer, tokens")
    max_model_len: int = Field(2048, ge=64, description="longest question with image and answer, tokens")
    dtype: DType = Field("auto", description="auto: bfloat16 on a GPU, float32 on a CPU")
    batch_size: int = operational(32, "images asked about at once", ge=1)
    tensor_parallel_size: int = operational(1, "GPUs that one engine spans", ge=1)
    gpu_memory_utilization: float = operational(0.9, "share of GPU memory that vLLM takes", gt=0.0, le=1.0)


class InpainterSettings(Section):
    """The diffusion inpainting pipeline (Stable Diffusion 1.5, 2 or XL inpainting)."""

    model: str = Field(
        "sd2-community/stable-diffusion-2-inpainting", description="folder, mini:// or hub id of a diffusers pipeline"
    )
    revision: Revision = None
    resolution: int = Field(0, ge=0, description="side of the square image, pixels; 0: the model's own")
    dtype: DType = Field(
        "auto", description="auto: bfloat16 on a GPU; on a CPU float32, and the denoiser bfloat16 where that is faster"
    )
    device: Device = operational("auto", "auto: a GPU if there is one")
    compile: bool = operational(False, "torch.compile the denoiser (GPU; minutes of start-up, faster steps)")


class ScorerSettings(Section):
    """The CLIP whose OOD score draws the boundary."""

    model: str = Field(
        "ViT-B-16",
        description="CLIP: open_clip name, folder, mini://, hf-hub:ID; or a classifier: timm:NAME, timm:FOLDER",
    )
    pretrained: str | None = Field("openai", description="open_clip pretrained tag; not used for a folder")
    revision: Revision = None
    score: ScoreName = Field("energy", description="OOD score, higher = more ID")
    temperature: float = Field(1.0, gt=0.0, description="temperature of energy and MSP, on logits of 100 cos")
    templates: list[AboutWord] = Field(["a nice {}"], min_length=1, description="prompts of an ID class name, averaged")
    dtype: DType = Field("auto", description="auto: float32 (scores are compared with a threshold)")
    device: Device = operational("auto", "auto: a GPU if there is one")
    placement: Literal["local", "actor"] = operational("local", "inside every sampler, or one shared actor pool")

    @property
    def name(self) -> str:
        """The model with its pretrained tag, as rows and the calibration name it."""
        return f"{self.model} {self.pretrained or ''}".strip()


class LabelSettings(Section):
    """Negative labels (NegLabel mining, ICLR 2024)."""

    candidates: str = Field(
        "wordnet",
        description="wordnet; neglabel: the paper's list, without animals and food; or a text file with one word "
        "per line, local path or mini://",
    )
    noun_prompt: AboutWord = Field("the nice {}", description="prompt of a noun candidate")
    adjective_prompt: AboutWord = Field("This is a {} photo", description="prompt of an adjective candidate")
    quantile: Share = Field(0.95, description="quantile over ID classes of the cosine that ranks a candidate")
    keep: float = Field(0.15, gt=0.0, le=1.0, description="share of candidates kept, nouns and adjectives apart")
    groups: int = Field(100, ge=1, description="groups of the grouped NegLabel score")


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


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class PoolSettings(Section):
    """Size and machine needs of one pool of actors."""

    min: int = operational(0, "fewest actors while the stage has work", ge=0)
    max: int = operational(1, "most actors", ge=0)
    cpus: float = operational(1.0, "logical CPUs per actor", ge=0.0)
    gpus: Gpus = operational(0.0, "GPUs per actor: an integer, or 1/k")
    resources: dict[str, float] = operational({}, "custom Ray resources per actor")
    labels: dict[str, str] = operational({}, "Ray node labels an actor asks for, such as ray.io/market-type: spot")

    kinds: dict[str, str] = operational(
        {},
        "machines to ask for, the preferred first: name -> what differs, as cpus=, gpus=, a resource= or "
        "a label=, with blanks between (spot: ray.io/market-type=spot)",
    )
    patience: float = operational(120.0, "seconds an actor waits for a machine of one kind before the next", gt=0.0)

    def of_kinds(self) -> dict[str, PoolSettings]:
        """What an actor of each kind asks for, by name, in order of preference; one kind "" where none are named."""
        return {name: self._of_kind(name, text) for name, text in self.kinds.items()} or {"": self}

    def _of_kind(self, name: str, text: str) -> PoolSettings:
        found: dict[str, Any] = {"resources": dict(self.resources), "labels": dict(self.labels), "kinds": {}}
        for word in text.split():
            key, equals, value = word.partition("=")
            if not (key and equals and value):
                raise ValueError(f"kind {name!r}: {word!r} is not name=value")
            amount = _number(value)
            if key in ("cpus", "gpus"):
                found[key] = value
            elif amount is None:
                found["labels"][key] = value
            else:
                found["resources"][key] = amount
        return PoolSettings.model_validate(self.model_dump() | found)

    @model_validator(mode="after")
    def _kinds_can_be_read(self) -> PoolSettings:
        for name, text in self.kinds.items():
            self._of_kind(name, text)
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> PoolSettings:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is larger than max ({self.max})")
        return self


class FarmSettings(Section):
    """Ray actors, units of work and what happens when something dies."""

    unit_size: int = Field(32, ge=1, description="samples per unit: committed at once, what a lost machine may cost")
    describers: PoolSettings = operational(PoolSettings(), "pool of vLLM engines")
    samplers: PoolSettings = operational(PoolSettings(max=2), "pool of diffusion workers")
    scorers: PoolSettings = operational(PoolSettings(), "pool of CLIP scorers, with scorer.placement: actor")
    max_attempts: int = operational(3, "attempts per unit before it is quarantined", ge=1)
    unit_deadline: float = operational(1800.0, "seconds after which a unit's worker counts as hung", gt=0.0)
    setup_grace: float = operational(1800.0, "seconds an actor may take to load before it is replaced", gt=0.0)
    idle_grace: float = operational(60.0, "seconds an actor may have nothing to do before it is let go", ge=0.0)
    in_flight: int = operational(2, "units handed to a ready worker at once", ge=1)
    max_quarantined: int = operational(0, "quarantined units tolerated before the job ends with exit code 3", ge=0)
    status_every: float = operational(10.0, "seconds between progress lines when there is no terminal", gt=0.0)
    budget_accepted: int | None = operational(None, "end, to be resumed, when so many samples are accepted", ge=1)
    budget_gpu_hours: float | None = operational(
        None, "end, to be resumed, when this call's workers have held GPUs for so many hours", gt=0.0
    )
    on_finish: str | None = operational(
        None,
        "told when the run ends, done or failed: a command (the status as JSON on its input), or a URL (POST); not "
        "stored with the run",
        secret=True,
    )
    threads: int = operational(0, "threads of torch and NumPy per actor; 0: its logical CPUs", ge=0)

    @model_validator(mode="after")
    def _somebody_works(self) -> FarmSettings:
        if self.scorers.kinds:
            raise ValueError(
                "scorers.kinds: scorers are of one kind; say what they need in scorers.resources and labels"
            )
        for name in ("describers", "samplers"):
            if getattr(self, name).max < 1:
                raise ValueError(f"{name}.max must be at least 1: nothing is made without one")
        return self


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
        if not self.scorer.model.startswith("timm:"):
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
