import pytest

from synood_ray.detection.blind import blind_check, told
from synood_ray.storage import layout
from synood_ray.storage.parts import PromptRow, encode_prompts
from synood_ray.storage.run import Run
from tests.training.run_folder import make_run, make_settings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    store = make_run(make_settings(tmp_path_factory.mktemp("blind"), "no clip is loaded"))
    rows = [PromptRow("00000000", 0, "a.png", "hill", "a Tree-Frogs' pond, two ice cream vans", "A photo of hill.")]
    store.put_new(layout.prompts_key(0), encode_prompts(rows))
    return Run.open(store)


def test_names_are_found_in_words_prompts_and_answers_whatever_their_form(run: Run) -> None:
    names = {
        "near/a": ["ice_cream", "Violin", "grass", "skyscraper", "cream van", "n01440764"],
        "far/b": ["n00000001", "123"],
        "far/c": ["icecream"],
    }
    found = blind_check(run, ["violins", "kite"], names)
    assert found == {
        "near/a": {"classes": 5, "words": ["Violin"], "prompts": ["grass"], "answers": ["cream van", "ice_cream"]},
        "far/c": {"classes": 1, "words": [], "prompts": [], "answers": []},
    }
    assert told(found)[0] == (
        "blind check, near/a: of 5 class names 1 in negative labels (such as 'Violin'), "
        "1 in prompts (such as 'grass'), 2 in describer's answers (such as 'cream van')"
    )


def test_without_class_names_there_is_nothing_to_look_for(run: Run) -> None:
    assert blind_check(run, ["kite"], {"far/flat": []}) == {}
