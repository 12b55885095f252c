"""The run's negative labels go with the CLIP and the settings that they were mined with, or are refused."""

from pathlib import Path

import pytest
import torch

from synood_ray.cli import evaluate, finetune
from synood_ray.cli.arguments import parse
from synood_ray.cli.fixed import settings_for
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.negatives.stored import negative_labels
from synood_ray.storage import layout
from synood_ray.storage.run import Run
from synood_ray.storage.stores.base import Store
from tests.detection.tiny_clip import WIDTH, ColourClip
from tests.training.run_folder import COLOURS, make_run, make_settings

NAMES = sorted(COLOURS)


class Clip(ColourClip):
    """Texts are turned by a rotation that depends on the turn, in degrees; one of 0.5 is what rounding does."""

    def __init__(self, identity: str = "a", turn: float = 0.0) -> None:
        super().__init__()
        self.identity, self.turn = identity, torch.deg2rad(torch.tensor(turn))

    def encode_text(self, prompts: list[str]) -> torch.Tensor:
        features = super().encode_text(prompts)
        sideways = torch.cat([-features[:, WIDTH // 2 :], features[:, : WIDTH // 2]], dim=1)
        return features * self.turn.cos() + sideways * self.turn.sin()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path, "mini://models/clip")


@pytest.fixture
def store(settings: Settings) -> Store:
    return make_run(settings)


def test_labels_of_another_clip_are_refused(store: Store, settings: Settings) -> None:
    first = negative_labels(settings, store, NAMES, Clip())
    rebuilt = negative_labels(settings, store, NAMES, Clip("b", turn=0.5))
    assert torch.equal(rebuilt.features, first.features)
    with pytest.raises(UserError, match=r"negatives\.safetensors: was made by another CLIP .* or remove the file"):
        negative_labels(settings, store, NAMES, Clip("b", turn=5.0))
    store.delete(layout.NEGATIVES)
    again = negative_labels(settings, store, NAMES, Clip("b", turn=5.0))
    assert not torch.allclose(again.features, first.features)


def test_a_word_list_may_have_moved_but_not_be_another(store: Store, settings: Settings) -> None:
    words = negative_labels(settings, store, NAMES, Clip()).words
    settings.labels.candidates = "words.txt"  # as it was typed; workers had it as an absolute path
    assert negative_labels(settings, store, NAMES, Clip()).words == words
    settings.labels.candidates = "wordnet"
    with pytest.raises(UserError, match=r"labels\.candidates: was fixed .*, not \"wordnet\""):
        negative_labels(settings, store, NAMES, Clip())


def test_a_file_that_does_not_say_what_made_it_is_read(store: Store, settings: Settings) -> None:
    labels = negative_labels(settings, store, NAMES, Clip())
    store.delete(layout.NEGATIVES)
    store.put_new(layout.NEGATIVES, labels.to_bytes())
    settings.labels.keep = 0.3
    assert negative_labels(settings, store, NAMES, Clip("b", turn=5.0)).words == labels.words


@pytest.mark.parametrize("command", [evaluate, finetune])
@pytest.mark.parametrize("says", [True, False])
def test_what_was_fixed_with_the_labels_is_refused(
    store: Store, settings: Settings, command: object, says: bool
) -> None:
    run = Run.open(store)
    labels = negative_labels(settings, store, NAMES, Clip())
    if not says:  # a file of an earlier version; the run's own settings do
        store.delete(layout.NEGATIVES)
        store.put_new(layout.NEGATIVES, labels.to_bytes())

    def given(*argv: str) -> Settings:
        return settings_for(run, parse(command.COMMAND, ["--run", settings.output, *argv]))  # type: ignore[attr-defined]

    assert given("--labels.groups", "7", "--labels.keep", "0.8").labels.groups == 7
    with pytest.raises(UserError, match=r"^labels\.keep: was fixed when .* as 0\.8, not 0\.3; leave it out"):
        given("--labels.keep", "0.3")
    with pytest.raises(UserError, match=r"^labels\.noun_prompt: was fixed when the run made its negative labels"):
        given("--labels.noun_prompt", "an odd {}")


def test_where_no_labels_are_made_they_can_be_chosen_once(store: Store, settings: Settings) -> None:
    run = Run.open(store)

    def given(*argv: str) -> Settings:
        return settings_for(run, parse(evaluate.COMMAND, ["--run", settings.output, *argv]))

    chosen = given("--labels.keep", "0.3")
    assert len(negative_labels(chosen, store, NAMES, Clip()).words) == 3  # of the eleven that name no class
    assert given().labels.keep == 0.3  # run.json says 0.8
    with pytest.raises(UserError, match=r"labels\.keep: was fixed"):
        negative_labels(settings, store, NAMES, Clip())
