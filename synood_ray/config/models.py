"""The settings of the models: describer, inpainter, scorer and the negative labels' words."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from synood_ray.config.fields import Device, Section, Share, operational

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


TIMM = "timm:"
"""Before the name or folder of a classifier."""


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
    def is_classifier(self) -> bool:
        """Whether the model is no CLIP but a classifier of timm's, which has no text tower."""
        return self.model.startswith(TIMM)

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
