"""The settings of boundary sampling: what is painted, and how it gets into the band."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, model_validator

from synood_ray.config.fields import Interval, Section, Share, earlier

PolicyName = Literal[  # a name per line
    "context",
    "blend",
    "switch",
    "neighbour",
    "official",
    "mix",
]
"""The names of `synood_ray.sampling.prompts.POLICIES`."""

RecipeName = Literal[
    "newton",
    "fresh",
    "official",
]
"""The names of `synood_ray.sampling.recipes.RECIPES`."""


class PromptSettings(Section):
    """What is painted in the subject's place."""

    policy: PolicyName = earlier(
        "context",
        "context",
        "context: the scene without its subject; blend: two ID classes at once; switch: one for the first steps, "
        "another for the rest; neighbour: a named thing that is no ID class; official: context in the released words; "
        "mix: some of each",
    )
    mix: dict[str, float] = Field({"blend": 2.0, "switch": 1.0}, description="mix: policy -> how often, any unit")
    weight: float = Field(0.5, ge=0.05, le=0.95, description="blend: the partner's share of the text embedding")
    switch: float = Field(0.33, ge=0.05, le=0.95, description="switch: share of a pass's steps with the source's class")
    context: Share = Field(
        0.5, description="blend, switch, neighbour: share of samples whose text also names what is beside the subject"
    )
    groups: str | None = Field(
        None,
        description="CSV or JSON file, class name -> group: partners are of one group; none: WordNet's families, and "
        "where it has none the classes with the nearest texts",
    )
    across: Share = Field(0.0, description="share of samples whose partner is of another group")
    partners: int = Field(5, ge=1, description="partners of a class where no group says which: the nearest this many")
    named_by: str = Field(
        "wordnet",
        description="neighbour: who names what is no ID class: wordnet; describer: asked about each image, wordnet "
        "where nothing of its answer is left; or a JSON or CSV file, class name -> names, with commas between",
    )
    neighbours: int = Field(8, ge=1, description="neighbour: names per class, the nearest to its images")
    blind: str | None = Field(
        None, description="neighbour: text file of names that are never painted, one per line, such as a test set's"
    )

    @model_validator(mode="after")
    def _mix_names_policies(self) -> PromptSettings:
        policies = [name for name in get_args(PolicyName) if name != "mix"]
        for name, weight in self.mix.items():
            if name not in policies:
                raise ValueError(f"mix: no policy {name!r}; there are {', '.join(policies)}")
            if not weight >= 0:
                raise ValueError(f"mix: {name} must not be negative, but is {weight:g}")
        if self.policy == "mix" and not sum(self.mix.values()) > 0:
            raise ValueError("mix: all weights are 0")
        return self

    def takes(self, policy: PolicyName) -> bool:
        """Whether some samples are painted by this policy."""
        return self.policy == policy or (self.policy == "mix" and self.mix.get(policy, 0) > 0)


class SamplingSettings(Section):
    """Boundary sampling: how an ID image becomes an image on the ID/OOD boundary."""

    recipe: RecipeName = Field(
        "newton",
        description="newton: ours; fresh: new noise each round, no gradient; official: the released recipe, which has "
        "its own prompt and mask",
    )
    per_image: int = Field(1, ge=1, description="samples made from one selected image")
    band: Interval = Field(
        [-0.25, 0.25],
        description="margins that count as near the boundary, lowest and highest, ID standard deviations from it; one "
        "number b: [-b, b]",
    )
    rounds: int = Field(6, ge=1, description="denoising passes a sample may take before it is rejected")
    solver: Literal["dpm++", "ddim"] = Field("dpm++", description="ODE solver of the denoising pass")
    steps: int = Field(20, ge=1, le=1000, description="solver steps of a full pass; strength of them are run")
    strength: float = Field(0.6, gt=0.0, le=1.0, description="how far the image is re-noised, share of the schedule")
    restart: float = Field(
        0.06, gt=0.0, le=1.0, description="how far later rounds re-noise the last image; one solver step takes it back"
    )
    guidance: float = Field(3.0, ge=1.0, le=100.0, description="classifier-free guidance scale of full passes; 1 = off")
    guided: float = Field(
        1.0, gt=0.0, le=1.0, description="share of a full pass's steps, from the first, that are guided: fewer, faster"
    )
    gain: float = Field(
        8.0, gt=0.0, description="length of a step, in first-order Newton steps; too long a step is taken back in part"
    )
    max_step: float = Field(0.6, gt=0.0, description="longest step of the latents per round, root mean square")
    mask: Literal["square", "box", "whole", "files"] = Field(
        "square",
        description="what is repainted: a square around the subject's box (box column, else a centred box), the box "
        "itself, all, or mask files",
    )
    find_boxes: bool = Field(
        False,
        description="ask the describer where the subject is, if there is no box column; the centred box where its "
        "answer holds none that can be used",
    )
    box_share: float = Field(0.75, gt=0.0, le=1.0, description="side of the centred box, share of the image's")
    masks: str | None = Field(None, description="folder of mask images named like the images, for mask: files")
    structure: Share = earlier(
        0.35,
        0.0,
        "reject a sample that should show a thing and has less structure where it was repainted than this share of its "
        "companion's (needs id_companions): an empty place; 0: accept those too",
    )
    clip_check: bool = Field(
        True, description="reject a sample if CLIP sees its class in it: top-1, and as sure as of held-out ID images"
    )
    mllm_check: bool = Field(True, description="reject a sample in which the describer still sees its class")
    id_companions: bool = Field(True, description="also regenerate every source as an ID image (own prompt)")
    distinct: float = earlier(
        0.005,
        0.0,
        "of accepted samples of a class nearer to each other than this (1 - cos of the scorer's CLIP features) only "
        "the first is kept when the run is published; a CLIP with wider distances needs more; 0: all are",
        ge=0.0,
        le=1.0,
    )
    batch_size: int = Field(
        16,
        ge=1,
        description="samples per network call, always as many: another number rounds differently; up to four times as "
        "many are in work",
    )

    @model_validator(mode="after")
    def _masks_are_named(self) -> SamplingSettings:
        if self.find_boxes and self.mask not in ("square", "box"):
            raise ValueError(f"find_boxes: mask {self.mask!r} needs no boxes; 'square' and 'box' do")
        if self.mask == "files" and not self.masks:
            raise ValueError("mask 'files' needs sampling.masks, the folder that holds them")
        return self
