"""Models of the Hub: which they are, and that a run keeps to the commits that it began with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.locations import resolve
from synood_ray.models import hub
from tests.detection.fake_hub import commit_id, environment, fake_hub

FIRST, SECOND = commit_id(1), commit_id(2)

LOOK_UP = """
import json, sys
from synood_ray.errors import UserError
from synood_ray.models.hub import look_up

for revision in (None, sys.argv[1]):
    print(look_up("scorer", "me/clip", revision))
for model, revision in (("me/clip", "no-such-branch"), ("me/nothing", None)):
    try:
        look_up("scorer", model, revision)
    except UserError as error:
        print(error)
"""

UNREACHED = """
from synood_ray.models.hub import look_up
print(look_up("scorer", "me/clip", None))
"""

LOAD = """
import sys
import torch
from synood_ray.config.models import InpainterSettings, ScorerSettings
from synood_ray.models.clip import ClipModel
from synood_ray.models.hub import cached
from synood_ray.models.inpainters import open_inpainter

commit, folder = sys.argv[1:]
taken = ClipModel(ScorerSettings(model="hf-hub:me/clip", pretrained=None, revision=commit, device="cpu"))
here = ClipModel(ScorerSettings(model=folder, device="cpu"))
print(all(map(torch.equal, taken.model.state_dict().values(), here.model.state_dict().values())))
open_inpainter(InpainterSettings(model="me/inpainter", revision=commit, device="cpu"))
print(cached("me/clip", commit), cached("me/clip", None), cached("me/inpainter", commit))
"""


def files_of(location: str) -> dict[str, bytes]:
    folder = Path(resolve(location))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ask(url: str, home: Path, program: str, *argv: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *argv], env=environment(url, home), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_which_models_are_to_come_from_the_hub(tmp_path: Path) -> None:
    settings = Settings()
    settings.describer.contexts = "contexts.jsonl"  # no model is asked
    settings.inpainter.model = "mini://models/inpainting"
    settings.scorer.model = "ViT-B-16"  # an architecture; its tag names the weights
    assert hub.hub_models(settings) == {}
    settings.describer.contexts = None
    settings.describer.model, settings.inpainter.model = "me/llm", "me/inpainter"
    settings.scorer.model, settings.detector.model = "timm:hf-hub:me/resnet", "hf-hub:me/clip"
    assert hub.hub_models(settings) == {
        "describer": "me/llm",
        "inpainter": "me/inpainter",
        "scorer": "me/resnet",
        "detector": "me/clip",
    }
    settings.inpainter.model = str(tmp_path)
    assert "inpainter" not in hub.hub_models(settings)
    for wrong in ("mini://no-such", "./no/such", "a/b/c", "alone"):
        settings.inpainter.model = wrong
        with pytest.raises(UserError, match=r"inpainter\.model: there is no folder"):
            hub.hub_models(settings)


def test_commits_go_into_the_settings_of_workers_only() -> None:
    settings = Settings()
    pinned = hub.at_commits(settings, {"scorer": FIRST, "inpainter": SECOND})
    assert (pinned.scorer.revision, pinned.inpainter.revision) == (FIRST, SECOND)
    assert settings.scorer.revision is None and pinned.describer.revision is None


def test_a_model_that_cannot_be_looked_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "look_up", lambda section, model, revision: FIRST if section == "inpainter" else None)
    settings = Settings()
    settings.inpainter.model, settings.describer.model = "me/inpainter", "me/llm"
    said: list[str] = []
    assert hub.find_commits(settings, said.append) == {"inpainter": FIRST}
    (line,) = said
    assert line.startswith("describer.model: me/llm was not found")


def test_what_a_branch_stands_at(tmp_path: Path) -> None:
    with fake_hub() as server:
        server.commits["me/clip"] = [{"a": b"1"}, {"a": b"2"}]
        said = ask(server.url, tmp_path, LOOK_UP, FIRST)
    assert said[:2] == [SECOND, FIRST]
    assert said[2] == "scorer.revision: me/clip has no branch, tag or commit 'no-such-branch'"
    assert said[3].startswith("scorer.model: there is neither a folder me/nothing nor a model of that name on the Hub")
    assert ask("http://127.0.0.1:9", tmp_path, UNREACHED) == ["None"]


@pytest.mark.real
def test_models_are_taken_at_their_commit(tmp_path: Path) -> None:
    """main has moved on to something else; a run that began before does not see it."""
    moved = {"open_clip_config.json": b"{}", "model_index.json": json.dumps({"_class_name": "Nothing"}).encode()}
    with fake_hub() as server:
        server.commits["me/clip"] = [files_of("mini://models/clip"), moved]
        server.commits["me/inpainter"] = [files_of("mini://models/inpainting"), moved]
        same, cached = ask(server.url, tmp_path, LOAD, FIRST, resolve("mini://models/clip"))
    assert same == "True"
    assert cached == f"{FIRST} None {FIRST}"
