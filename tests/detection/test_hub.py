"""A detector goes to the Hugging Face Hub, or into a folder, and comes back the same."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from synood_ray import Detector
from synood_ray.detection.hub import check_on_hub
from synood_ray.errors import Unavailable, UserError
from tests.detection.fake_hub import FakeHub, commit_id, environment, fake_hub
from tests.detection.test_detector import make_detector, pictures
from tests.detection.tiny_clip import ColourClip

_SCRIPT = """
import sys
from synood_ray import Detector
from synood_ray.detection.hub import check_on_hub
from synood_ray.errors import UserError
from tests.detection.test_detector import make_detector, pictures
from tests.detection.tiny_clip import ColourClip

clip = ColourClip()
detector = make_detector(clip, threshold=0.25)
print(detector.push_to_hub("me/judge", token="hf_x"))
make_detector(clip, threshold=0.75).push_to_hub("me/judge", token="hf_x")
for revision, threshold in (("main", 0.75), (sys.argv[1], 0.25)):
    loaded = Detector.from_pretrained("me/judge", revision=revision, clip=clip)
    assert loaded.description.threshold == threshold
    assert loaded(pictures()).score.equal(detector(pictures()).score)
loaded = Detector.from_pretrained("me/judge", local_files_only=True, clip=clip)
assert loaded.description.threshold == 0.75
try:
    Detector.from_pretrained("me/other", clip=clip)
except UserError as error:
    print(error)
check_on_hub("me/judge")
for name in ("me/other", "me/nobody", "a/b/c"):
    try:
        check_on_hub(name)
    except UserError as error:
        print(error)
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as server:
        yield server


def test_pushed_detectors_are_loaded_back_by_revision(hub: FakeHub, tmp_path: Path) -> None:
    hub.commits["me/other"] = [{"README.md": b"a data set"}]
    command = [sys.executable, "-c", _SCRIPT, commit_id(1)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment(hub.url, tmp_path)
    )
    assert ended.returncode == 0, ended.stderr
    url, refused, *unserved = ended.stdout.splitlines()
    assert url.startswith(f"{hub.url}/me/judge")
    assert refused == "me/other: no detector.json on the Hub: that repository holds no detector"
    begins = ("me/other: the Hub has no detector.json", "me/nobody: the Hub has no detector.json", "a/b/c: no name on")
    assert len(unserved) == 3 and all(map(str.startswith, unserved, begins)), unserved
    first, second = hub.commits["me/judge"]
    names = [name for name in first if not name.startswith("weights-")]
    assert sorted(names) == ["README.md", "config.json", "detector.json"]
    assert json.loads(first["config.json"]) == {"detector": "detector.json"}
    assert json.loads(second["detector.json"])["threshold"] == 0.75
    card = first["README.md"].decode()
    assert "library_name: synood_ray" in card and "OOD detector of 3 classes" in card and "below 0.25 = OOD" in card


def test_a_saved_folder_is_a_repository_and_a_detector(tmp_path: Path) -> None:
    detector = make_detector(ColourClip())
    detector.save_pretrained(tmp_path)
    for load in (Detector.load, Detector.from_pretrained):
        assert torch.equal(load(tmp_path, clip=ColourClip())(pictures()).score, detector(pictures()).score)
    files = {path.name for path in tmp_path.iterdir() if path.is_file() and not path.name.startswith("weights-")}
    assert files == {"README.md", "config.json", "detector.json"}
    with pytest.raises(UserError, match="holds another detector"):
        make_detector(ColourClip(), threshold=0.7).save_pretrained(tmp_path)


def test_the_card_says_that_a_clip_of_ones_own_is_not_in_it(tmp_path: Path) -> None:
    card = str(make_detector(ColourClip()).generate_model_card())
    assert "give it as" not in card
    detector = make_detector(ColourClip())
    object.__setattr__(detector.description, "model", str(tmp_path))
    object.__setattr__(detector.description, "notes", ["score joint: few images"])
    card = str(detector.generate_model_card())
    assert "give it as `clip=`" in card and "- score joint: few images" in card


def test_a_hub_that_is_not_reached_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match="me/judge: the Hub is not reached, and this machine has no copy"):
        check_on_hub("me/judge")
