"""Settings of a command on a run: the run's own with the command line's over them, but for what is fixed by now."""

from __future__ import annotations

from synood_ray.cli.command import Arguments
from synood_ray.config.settings import Settings
from synood_ray.storage.run import Run


def settings_for(run: Run, arguments: Arguments) -> Settings:
    """The settings for fine-tuning and evaluating a run.

    Raises UserError for a setting of the section `labels` that its negative labels were not made with. Where those were
    made by such a command, whose options are not in run.json, they hold for the next one too.
    """
    from synood_ray.negatives.stored import check_labels, fixed_labels

    config, mined_with = run.config, fixed_labels(run) or {}
    settings = arguments.over({**config, "labels": {**config.get("labels", {}), **mined_with}})
    check_labels(mined_with, settings)
    return settings
