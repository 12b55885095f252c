"""Models of the Hugging Face Hub: which of a run's models they are, and at which commit it takes them.

A branch moves. A run that resumes next month, or that is trained on then, is to have the models that it began with: the
commits are looked up once, when it begins, and stand in its record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from synood_ray.config.models import TIMM
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.locations import is_folder, is_hub_id
from synood_ray.models.describers import chosen

HF_HUB = "hf-hub:"
"""How open_clip and timm mark a model of the Hub."""

_SECONDS = 10.0


def hub_models(settings: Settings) -> dict[str, str]:
    """Section of the settings -> ``owner/name``, of every model that is to come from the Hub.

    Raises UserError for what is neither a folder that is there nor such a name.
    """
    named = {"inpainter": settings.inpainter.model}
    if chosen(settings.describer) == "model":
        named["describer"] = settings.describer.model
    for section, model in (("scorer", settings.scorer.model), ("detector", settings.detector.model or "")):
        name = model.removeprefix(TIMM)
        if name.startswith(HF_HUB) or "/" in name:  # others are architectures, whose weights a tag names
            named[section] = name.removeprefix(HF_HUB)
    found = {}
    for section, model in named.items():
        if is_folder(model):
            continue
        if not is_hub_id(model):
            raise UserError(f"{section}.model: there is no folder {model}")
        found[section] = model
    return found


def look_up(section: str, model: str, revision: str | None) -> str | None:
    """The commit that a model's revision stands at, 40 hex digits: on the Hub, or in the cache where that cannot be
    reached; None if it is in neither.

    revision: a branch, tag or commit; None: main. Raises UserError if the Hub says that there is none.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        return cached(model, revision)
    try:
        return HfApi().model_info(model, revision=revision, timeout=_SECONDS).sha
    except RevisionNotFoundError as error:
        raise UserError(f"{section}.revision: {model} has no branch, tag or commit {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{section}.model: there is neither a folder {model} nor a model of that name on the Hub that HF_TOKEN may "
            "read"
        ) from error
    except (HfHubHTTPError, HTTPError, OSError):  # HTTPError: of the library's own client, no answer at all
        return cached(model, revision)


def cached(model: str, revision: str | None) -> str | None:
    """The commit that a revision stood at when the model was fetched to this machine; None if it is not here."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True)).name
    except LocalEntryNotFoundError:
        return None


def find_commits(settings: Settings, say: Callable[[str], None]) -> dict[str, str]:
    """Section of the settings -> commit of its model on the Hub; says of which models it cannot be had."""
    found = {}
    for section, model in hub_models(settings).items():
        commit = look_up(section, model, getattr(settings, section).revision)
        if commit:
            found[section] = commit
        else:
            say(f"{section}.model: {model} was not found, here or on the Hub; workers will look for it, at any commit")
    return found


def at_commits(settings: Settings, commits: Mapping[str, str]) -> Settings:
    """The settings with these commits as the revisions."""
    found = settings.model_copy(deep=True)
    for section, commit in commits.items():
        getattr(found, section).revision = commit
    return found


def open_clip_folder(model: str, revision: str) -> str:
    """A local copy of a model of the Hub at a revision: open_clip itself only takes what main stands at."""
    from huggingface_hub import snapshot_download

    other_weights = ["*.bin", "*.pt", "*.h5", "*.msgpack", "*.onnx", "model*.safetensors", "pytorch_model*"]
    folder = snapshot_download(model, revision=revision, ignore_patterns=other_weights)
    if not list(Path(folder).glob("open_clip*.safetensors")):
        snapshot_download(model, revision=revision, allow_patterns="open_clip*.bin")
    return folder
