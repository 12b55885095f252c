"""A detector on the Hugging Face Hub: its folder is a repository as it is, with a card and a small config.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from synood_ray.detection.description import DESCRIPTION, DetectorDescription
from synood_ray.errors import Unavailable, UserError, first_line

if TYPE_CHECKING:
    from torch import Tensor

CARD = """---
{{ card_data }}
---

# OOD detector of {{ classes }} classes

CLIP `{{ clip }}` with a residual projector and {{ negatives }} negative labels; score `{{ score }}`, higher = more ID,
below {{ threshold }} = OOD{% if kept %} ({{ kept }} of held-out ID images are kept){% endif %}.
Trained by synood_ray with the recipe `{{ recipe }}`{% if images %} on {{ images }} images{% endif %}.

```python
from synood_ray import Detector

detector = Detector.from_pretrained("{{ repo_id }}")
detector("photo.jpg").is_ood
```
{% if local %}

Its CLIP lies in a folder of the machine that trained it and is not in here: load that, and give it as `clip=`.
{% endif %}
{% for note in notes %}

- {{ note }}
{% endfor %}

Paper of the method: https://arxiv.org/abs/2507.10225
"""


def check_on_hub(name: str) -> None:
    """Return if ``USER/NAME`` is a detector's repository, by its description, which stays in this machine's cache.

    Raises UserError if it is none that this user may read, Unavailable if neither Hub nor cache can tell.
    """
    try:
        hf_hub_download(name, DESCRIPTION)
    except LocalEntryNotFoundError as error:
        raise Unavailable(f"{name}: the Hub is not reached, and this machine has no copy") from error
    except HFValidationError as error:
        raise UserError(f"{name}: no name on the Hub: {first_line(error)}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status not in (401, 403, 404):
            raise Unavailable(f"{name}: the Hub answers {status}: {first_line(error)}") from error
        raise UserError(
            f"{name}: the Hub has no {DESCRIPTION} of that name, or not for you (log in with `hf auth login` or set "
            "HF_TOKEN)"
        ) from error


class OnHub(ModelHubMixin):
    """``save_pretrained``, ``push_to_hub`` and ``from_pretrained``, as huggingface_hub has them.

    What is saved is what ``save`` writes, and loads by ``load`` as well. ``from_pretrained`` takes ``device`` and
    ``clip`` besides, as ``load`` does, and raises UserError where a repository holds no detector.
    """

    description: DetectorDescription

    @property
    def held_out_scores(self) -> Tensor | None:
        """Scores [H] of held-out ID images, where the detector keeps them."""
        raise NotImplementedError

    _hub_mixin_config = {"detector": DESCRIPTION}  # noqa: RUF012 - the mixin's name; what config.json holds

    def save(self, target: str | Path) -> None:
        """Write the detector into a folder."""
        raise NotImplementedError

    @classmethod
    def load(cls, uri: str | Path, *, device: str = "auto", clip: Any = None) -> Any:
        """The detector of a folder."""
        raise NotImplementedError

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **options: Any,
    ) -> Any:
        if Path(model_id).is_dir():
            return cls.load(model_id, **options)
        how: dict[str, Any] = {"cache_dir": cache_dir, "token": token}
        how |= {"force_download": force_download, "local_files_only": local_files_only}

        def fetch(name: str, revision: str | None) -> Path:
            try:
                return Path(hf_hub_download(model_id, name, revision=revision, **how))
            except LocalEntryNotFoundError:  # the Hub was not reached, and says so
                raise
            except EntryNotFoundError as error:
                raise UserError(f"{model_id}: no {name} on the Hub: that repository holds no detector") from error

        described = fetch(DESCRIPTION, revision)
        # The folder is named after the commit: the weights are of the same one, whatever is pushed meanwhile.
        fetch(DetectorDescription.from_json(described.read_bytes()).weights, described.parent.name)
        return cls.load(described.parent, **options)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The page that a repository shows; keyword arguments are the template's."""
        about, scores = self.description, self.held_out_scores
        facts = {
            "kept": None if scores is None else f"{100 * float((scores >= about.threshold).double().mean()):.1f} %",
            "classes": len(about.class_names),
            "negatives": len(about.negative_words),
            "clip": about.model if about.pretrained is None else f"{about.model}, {about.pretrained}",
            "local": Path(about.model).expanduser().is_dir(),
            "score": about.score,
            "threshold": f"{about.threshold:.4g}",
            "recipe": about.recipe,
            "images": ", ".join(f"{count} {kind}" for kind, count in about.data.items()),
            "notes": about.notes,
            "repo_id": "USER/NAME",
        }
        return super().generate_model_card(*args, **(facts | kwargs))
