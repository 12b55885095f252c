"""docs/extending.md, "A describer", to the letter."""

from pathlib import Path

import pytest

from tests.extending.pages import follow, run

pytestmark = pytest.mark.slow

USE = """
import sys
from pathlib import Path

from synood_ray.config.fingerprint import fingerprint
from synood_ray.config.settings import Settings
from synood_ray.farm.actors.describer import DescriberActor
from synood_ray.farm.plan import Plan
from synood_ray.records import SourceImage
from synood_ray.sampling.produce import model_names
from synood_ray.storage import layout
from synood_ray.storage.parts import decode_prompts
from synood_ray.storage.stores import open_store
from tests.farm.local_ray import make_images

folder = Path(sys.argv[1])
images = make_images(folder / "images", 2)
settings = Settings.model_validate({"describer": {"fixed": "a wall, fox"}, "data": {"uri": str(images)}})
assert fingerprint(settings, "") != fingerprint(Settings.model_validate({"data": {"uri": str(images)}}), "")
sources = [SourceImage("a/000.png", 0, "fox", str(images / "a/000.png"), 1, 16, 16)]
actor = DescriberActor(settings.model_dump(mode="json"), str(folder / "run"))
actor.describe(0, Plan(sources).unit(0))
(row,) = decode_prompts(open_store(str(folder / "run")).get(layout.prompts_key(0)))
assert (row.context, row.prompt) == ("wall", "A photo of wall."), row
assert model_names(settings)["describer"] == "a wall, fox"
"""


def test_the_page_adds_a_describer_to_settings_actors_and_rows(tmp_path: Path) -> None:
    folder = follow("A describer", tmp_path / "copy")
    run(folder, "-c", USE, str(tmp_path))
    assert "the context of every image" in run(folder, "-m", "synood_ray", "synthesize", "--help", "describer")
