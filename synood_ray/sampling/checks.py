"""Whether a refined sample is accepted: its recipe's word, then CLIP's and the describer's on what it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from synood_ray.config.sampling import SamplingSettings
from synood_ray.config.settings import Settings
from synood_ray.models.describers import KINDS, chosen
from synood_ray.sampling.recipes import RECIPES, Recipe
from synood_ray.sampling.sample import Refined

Shows = Callable[[list[bytes], list[str]], "list[bool | None]"]
"""PNG images and subjects (class names) -> whether each image shows its subject, None where that cannot be told."""


def asks_describer(settings: Settings) -> bool:
    """Whether the describer is asked what accepted images show: if the run wants it, and it can see."""
    wanted = settings.sampling.mllm_check and RECIPES[settings.sampling.recipe].checks
    return wanted and KINDS[chosen(settings.describer)].sees


@dataclass(frozen=True, slots=True)
class Verdict:
    """reason: "" if the sample is accepted, else as in `SampleRow`; negative_label: the nearest, if any."""

    reason: str = ""
    negative_label: str = ""


class Checks:
    """The checks of a run. classes: how many ID classes there are; negative_words: the run's, none for a classifier;
    sure: the probability from which a class counts as shown (`Calibration.sure`)."""

    def __init__(
        self,
        settings: SamplingSettings,
        recipe: Recipe,
        classes: int,
        negative_words: Sequence[str] = (),
        sure: float = 0.0,
    ) -> None:
        self.by_clip = recipe.checks and settings.clip_check
        self.by_describer = recipe.checks
        self.least_structure = settings.structure if recipe.checks else 0.0
        self.recipe, self.classes, self.negative_words, self.sure = recipe, classes, negative_words, sure

    def judge(
        self,
        classes: Sequence[Sequence[tuple[int, str]]],
        refined: Sequence[Refined],
        pngs: Sequence[bytes],
        structures: Sequence[float],
        shows: Shows | None,
    ) -> list[Verdict]:
        """A verdict for each sample. classes: label and name of the ID classes that it must not show: its source's, and
        the one that it was painted with, if any; structures: how much is to be seen where it was repainted, share
        of its companion's (`models.images.structure`); shows: the describer's answers; None: it is not asked.

        The describer sees only what the recipe and CLIP let pass, all of it at once.
        """
        verdicts = self._by_recipe_and_clip([[label for label, _ in own] for own in classes], refined)
        for index, structure in enumerate(structures):
            if structure < self.least_structure and not verdicts[index].reason:
                verdicts[index] = Verdict("empty", verdicts[index].negative_label)
        asked = [
            (index, name) for index, verdict in enumerate(verdicts) if not verdict.reason for _, name in classes[index]
        ]
        if shows is None or not self.by_describer or not asked:
            return verdicts
        answers = shows([pngs[index] for index, _ in asked], [name for _, name in asked])
        for (index, _), still_there in zip(asked, answers, strict=True):
            if still_there:
                verdicts[index] = Verdict("mllm", verdicts[index].negative_label)
        return verdicts

    def _by_recipe_and_clip(self, labels: Sequence[Sequence[int]], refined: Sequence[Refined]) -> list[Verdict]:
        import torch

        from synood_ray.models.scorer import verdicts_of

        if not refined:
            return []
        logits = torch.stack([one.logits for one in refined])
        most = max(map(len, labels))
        own = torch.tensor([[*some, *[-1] * (most - len(some))] for some in labels])
        nearest, shows = verdicts_of(logits, own, self.classes, self.sure)
        verdicts = []
        for one, index, still_there in zip(refined, nearest.tolist(), shows.tolist(), strict=True):
            if not self.recipe.accepts(one):
                verdicts.append(Verdict("rounds"))
            else:
                reason = "clip" if self.by_clip and still_there else ""
                verdicts.append(Verdict(reason, self.negative_words[index] if self.negative_words else ""))
        return verdicts
