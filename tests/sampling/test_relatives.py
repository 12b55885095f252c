import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from synood_ray.config.sampling import PromptSettings
from synood_ray.errors import UserError
from synood_ray.negatives.wordnet import comparable
from synood_ray.sampling.relatives import Gate, Relatives, check_prompts, find_relatives, read_groups

NAMES = ["owl", "truck", "eagle", "motorcycle", "zorg"]


def settings(**given: Any) -> PromptSettings:
    return PromptSettings.model_validate({"policy": "blend", **given})


def texts(words: list[str]) -> Tensor:
    """Features by a word's number among the names: the nearest text is the next name's."""
    angles = torch.tensor(
        [0.3 * 1.1 ** NAMES.index(word) * NAMES.index(word) if word in NAMES else 2.0 for word in words]
    )
    return F.normalize(torch.stack([angles.cos(), angles.sin()], dim=1), dim=1)


def test_partners_are_of_the_wordnet_family_or_have_the_nearest_texts() -> None:
    found = find_relatives(settings(partners=2), NAMES, texts, None)
    assert found.partners[:4] == [[2], [3], [0], [1]]  # birds of prey, motor vehicles
    assert found.partners[4] == [3, 2]  # nobody knows a zorg
    assert found.strangers(0) == [1, 3, 4] and found.neighbours == []


def test_partners_are_of_the_given_group_nearest_first(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("owl,a\ntruck,b\neagle,b\nmotorcycle,a\nzorg,a\n")
    found = find_relatives(settings(groups=str(path)), NAMES, texts, None)
    assert found.partners == [[3, 4], [2], [1], [4, 0], [3, 0]]
    path = tmp_path / "groups.json"
    path.write_text(json.dumps(dict(zip(NAMES, "abcda", strict=True))))
    alone = find_relatives(settings(groups=str(path), partners=1), NAMES, texts, None)
    assert alone.partners == [[4], [0], [1], [2], [0]]  # alone in its group: the nearest text


def test_a_class_of_the_same_name_is_no_partner() -> None:
    names = ["owl", "Owl", "eagle"]
    found = find_relatives(settings(), names, lambda words: torch.eye(3), None)
    assert found.partners == [[2], [2], [0, 1]]


def test_a_classifier_has_no_texts_to_compare() -> None:
    with pytest.raises(UserError, match="'zorg' is in no group with another class"):
        find_relatives(settings(), NAMES, None, None)
    assert find_relatives(settings(), NAMES[:4], None, None).partners == [[2], [3], [0], [1]]
    assert find_relatives(settings(policy="context"), NAMES, None, None) == Relatives()


def test_neighbours_are_kin_that_is_no_id_class_and_not_blind(tmp_path: Path) -> None:
    birds = ["owl", "eagle"]
    blind = tmp_path / "blind.txt"
    blind.write_text("Hawks\n\nvultures\n")

    def near_hawks(words: list[str]) -> Tensor:
        hawks = torch.tensor([1.0 if "hawk" in word else 0.0 for word in words])
        return torch.stack([hawks, 1 - hawks], dim=1)

    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    free = find_relatives(settings(policy="neighbour", neighbours=4), birds, near_hawks, images)
    assert len(free.neighbours[0]) == 4 and free.neighbours[0][0] == "hawk" and "hawk" not in free.neighbours[1]
    forms = {comparable(name) for names in free.neighbours for name in names}
    assert not forms & {"owl", "eagle", "bird of prey", "bird", "harpy", "horned owl"}  # nor above or below a class
    barred = find_relatives(settings(policy="neighbour", blind=str(blind)), birds, near_hawks, images)
    assert not {"hawk", "vulture"} & {name for names in barred.neighbours for name in names}


def test_neighbours_of_a_file_are_checked_as_others_are(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"owl": "nightjar, Eagles, frogmouth", "zorg": "Zorgs"}))
    found = find_relatives(settings(policy="neighbour", named_by=str(path)), ["owl", "eagle"], None, None)
    assert found.neighbours == [["nightjar", "frogmouth"]] * 2
    with pytest.raises(UserError, match=r"no class has a neighbour .*names\.json has none"):
        check_prompts(settings(policy="neighbour", named_by=str(path)), ["zorg"])
    with pytest.raises(UserError, match=r"prompts\.named_by"):
        check_prompts(settings(policy="neighbour", named_by=str(tmp_path / "none.json")), NAMES)


def test_a_proposed_name_is_as_near_to_its_class_as_half_of_the_others() -> None:
    """By hand: owl at 0 degrees, the others' cosines to it .9, .5, .1; half of them reach .5."""
    cosines = {"owl": 1.0, "eagle": 0.9, "truck": 0.5, "motorcycle": 0.1, "hawk": 0.6, "lorry": 0.4, "kite": 0.5}
    asked = []

    def on_a_circle(words: list[str]) -> Tensor:
        asked.append(words)
        near = torch.tensor([cosines[word] for word in words])
        return torch.stack([near, (1 - near**2).sqrt()], dim=1)

    gate = Gate(["owl", "eagle", "truck", "motorcycle"], on_a_circle)
    assert gate(0, ["lorry", "hawk", "kite"]) == ("hawk", "kite")
    assert gate(0, ["kite", "lorry"]) == ("kite",) and asked[1:] == [["lorry", "hawk", "kite"]]
    assert Gate(["owl"], on_a_circle)(0, ["lorry"]) == ("lorry",)


def test_a_class_without_neighbours_takes_those_of_its_partners() -> None:
    found = find_relatives(settings(policy="neighbour", partners=1, neighbours=3), NAMES, texts, torch.eye(5, 2))
    assert found.neighbours[4] == found.neighbours[3] and len(found.neighbours[3]) == 3


def test_relatives_are_stored_as_they_are() -> None:
    one = Relatives([[1], [0]], [["é"], []])
    assert Relatives.from_json(one.to_json()) == one


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("owl,a\nowl,b\n", "line 2: a second name for 'owl'"),
        ("owl,a\ntruck,b\n", "no group for 3 classes, such as 'eagle'"),
        ("owl,a\ntruck,b\neagle,c\nmotorcycle,d\nzorg,e\n", "puts every class into a group of its own"),
        ("owl\n", "1 columns instead of two"),
    ],
)
def test_wrong_groups(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "groups.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_groups(str(path), NAMES)
    with pytest.raises(UserError, match=r"prompts\.groups"):
        check_prompts(settings(groups=str(path)), NAMES)


def test_wrong_policies_for_these_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs two classes, but all are 'owl'"):
        check_prompts(settings(), ["owl", "Owls"])
    with pytest.raises(UserError, match="WordNet knows none"):
        check_prompts(settings(policy="neighbour"), ["zorg"])
    with pytest.raises(UserError, match=r"prompts\.blind: .* cannot be read"):
        check_prompts(settings(policy="neighbour", blind=str(tmp_path / "none")), NAMES)
    blind = tmp_path / "blind.txt"
    every = find_relatives(settings(policy="neighbour", neighbours=10**6), ["owl"], texts, torch.eye(1, 2)).neighbours
    blind.write_text("\n".join(every[0]))
    with pytest.raises(UserError, match="the blind list leaves none"):
        check_prompts(settings(policy="neighbour", blind=str(blind)), ["owl"])
    check_prompts(settings(policy="context"), ["zorg"])
