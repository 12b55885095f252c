"""What the service answers with, as JSON; also what /openapi.json describes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Explanation(BaseModel):
    """As `synood_ray.detection.detector.Explanation`, without what the judgement says already."""

    similarity: float = Field(description="cosine of the image with the text of its class")
    negative: str = Field(description="the nearest negative label")
    negative_similarity: float = Field(description="cosine of the image with that label's text")
    parts: dict[str, float] = Field(description="what the score is made of, by name")


class Judgement(BaseModel):
    """One image that was judged."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(description='of the file or address; "" for the body of a request')
    score: float = Field(description="from 0 to 1, higher = more ID")
    is_ood: bool = Field(description="score below the threshold")
    threshold: float
    class_: str = Field(alias="class", description="the nearest ID class")
    probability: float = Field(description="of that class among the ID classes, by softmax")
    explanation: Explanation | None = Field(None, description="with ?explain=true")


class Fault(BaseModel):
    """An image among others, or a request, that was not judged. It never counts as ID."""

    name: str | None = Field(None, description="of the file or address, among others")
    error: str = Field(description="one sentence")


class Judgements(BaseModel):
    """The images of a request that may have many, in its order."""

    results: list[Judgement | Fault]


class About(BaseModel):
    """What is served."""

    version: str = Field(description="of synood_ray")
    run: str
    model: str = Field(description="the CLIP")
    detector: str = Field(description="how it was trained, and its score")
    classes: list[str] = Field(description="ID classes, in order of their labels")
    threshold: float = Field(description="scores below it are OOD")
    thresholds: dict[str, float] = Field(description="share of held-out ID images that is kept -> threshold")
    notes: list[str] = Field(description="what a user of the detector should know")
    limits: dict[str, Any] = Field(description="settings of the service that a request may run into")
