"""The line that the OpenOOD board asks for: a CSV file with its columns, to be uploaded with an issue there."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from synood_ray.config.settings import Settings
from synood_ray.detection.methods import OURS
from synood_ray.detection.protocols import OPENOOD

COLUMNS = (
    *("Training", "Postprocessor", "Near-OOD_AUROC", "Far-OOD_AUROC", "ID_Accuracy"),
    *("Outlier_Data", "Arch", "Additional_Description"),
)
"""Of results/imagenet1k_ood.csv in OpenOOD's repository."""


def board_line(evaluation: Mapping[str, Any], settings: Settings) -> str | None:
    """The file's text for this run's detector; None if it was not measured by OpenOOD's protocol.

    Means over near and over far sets and accuracy in percent. No outlier data set is used: outliers are made.
    """
    means = evaluation.get("means", {})
    measured = all(OURS in means.get(group, {}).get("values", {}) for group in ("near", "far"))
    if settings.evaluation.protocol != OPENOOD or not measured:
        return None
    aurocs = (means[group]["values"][OURS]["auroc"] for group in ("near", "far"))
    clip = settings.clip
    what = next(method["what"] for method in evaluation["methods"] if method["name"] == OURS)
    about = f"{clip.pretrained or 'own weights'}; outliers made by {settings.inpainter.model} from ID images; {what}"
    row = ["SynOOD", what.rpartition("score ")[2], *(f"{100 * value:.2f}" for value in aurocs)]
    row += [f"{100 * evaluation['id'][OURS]['accuracy']:.2f}", "No", clip.model, about]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, row])
    return text.getvalue()
