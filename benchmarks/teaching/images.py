"""Sets of OOD images to learn from, made as a run makes them, with what they cost; kept under build/teaching/.

Every set is of the same sources, made with the shipped CLIP head: the other heads learn from the same images.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.teaching.world import World, halves
from synood_ray.config.fingerprint import fingerprint
from synood_ray.config.paths import READ
from synood_ray.config.settings import Settings
from synood_ray.locations import resolve
from synood_ray.records import SourceImage
from synood_ray.sampling.prompts import POLICIES

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.inpainters.base import Inpainter
    from synood_ray.models.scorer import Scorer
    from synood_ray.sampling.calibration import Calibration
    from synood_ray.sampling.produce import Models
    from synood_ray.storage.stores.base import Store

CACHE = Path(__file__).resolve().parents[2] / "build" / "teaching"
PACKAGE = Path(__file__).resolve().parents[2] / "synood_ray"

ANYWHERE = 1e6
"""A margin, in ID standard deviations, that no image has."""

ALONE, FRESH = "left alone", "fresh noise"
RELEASED = "released"
OURS = tuple(policy for policy in POLICIES if policy != "official")


@dataclass(frozen=True)
class ImageSet:
    """What was kept of a set of samples, N of them, and what making all of them took.

    images: uint8 [N, 3, H, W]; sources: int64 [N], rows of `World.sources` (or of ``held_out``); margins: [N], in ID
    standard deviations.
    tried: samples begun; calls: of the denoiser; seconds: CPU time of the process.
    """

    images: Tensor
    sources: Tensor
    margins: Tensor
    tried: int = 0
    calls: int = 0
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.images)


def wanted(settings: Settings) -> dict[str, Settings]:
    """The sets of images by name: every policy with its images brought into the band, left alone, and taken from fresh
    noise until one lies in it; and the released recipe, which has a policy of its own.

    Names of half B are on the blind list of the policies that paint names.
    """
    found = {}
    for policy in OURS:
        found[policy] = changed(settings, policy)
        found[f"{policy}, {ALONE}"] = changed(settings, policy, band=ANYWHERE, rounds=1)
        found[f"{policy}, {FRESH}"] = changed(settings, policy, recipe="fresh")
    return found | {RELEASED: changed(settings, "official", recipe="official")}


def changed(settings: Settings, policy: str, **sampling: object) -> Settings:
    """The settings with another policy, and others for sampling."""
    values = settings.model_dump(mode="json")
    values["prompts"] |= {"policy": policy, "blind": _blind()}
    values["sampling"] |= {"id_companions": False, "mllm_check": False} | sampling
    return Settings.model_validate(values)


def _blind() -> str:
    """A file with the names of half B."""
    path = CACHE / "blind.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in sorted(halves()[1])), encoding="utf-8")
    return str(path)


class Maker:
    """The models of one process, loaded when a set is not there yet."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._parts: tuple[Inpainter, Scorer, Calibration] | None = None

    def make(self, name: str, settings: Settings) -> ImageSet:
        """A set of images, read if it is kept."""
        path = CACHE / "images" / f"{_slug(name)}-{self._digest(settings)}.safetensors"
        if not path.is_file():
            _write(path, self._made(settings))
        return _read(path)

    def _made(self, settings: Settings) -> ImageSet:
        import torch

        from synood_ray.models.images import from_png, to_tensor
        from synood_ray.records import SampleTask, sample_key, sample_seed
        from synood_ray.sampling.produce import produce

        models = self._loaded(settings)
        inpainter = models.engine.refiner.inpainter
        tasks = [
            SampleTask(sample_key(i), 0, source, 0, sample_seed(settings.seed, source.key, 0))
            for i, source in enumerate(self.world.made_from())
        ]
        contexts = {task.key: self.world.contexts[task.source.key] for task in tasks}
        produce(tasks[: settings.sampling.batch_size], contexts, models)  # oneDNN compiles for a batch size once
        calls, begin = inpainter.denoiser_calls, time.process_time()
        rows = produce(tasks, contexts, models)
        seconds, calls = time.process_time() - begin, inpainter.denoiser_calls - calls
        models.engine.close()
        kept = [i for i, row in enumerate(rows) if row.accepted]
        pixels = [to_tensor([from_png(rows[i].image or b"")], inpainter.resolution)[0] for i in kept]
        empty = torch.empty(0, 3, inpainter.resolution, inpainter.resolution)
        return ImageSet(
            ((torch.stack(pixels) if pixels else empty) * 255).round().to(torch.uint8),
            torch.tensor([self.world.taken[i] for i in kept], dtype=torch.int64),
            torch.tensor([rows[i].margin for i in kept]),
            len(rows),
            calls,
            seconds,
        )

    def companions(self, settings: Settings) -> ImageSet:
        """Every source regenerated as what it is."""
        return self._regenerated("companions", settings, self.world.made_from(), self.world.taken)

    def regenerated(self, settings: Settings) -> ImageSet:
        """Every held-out image regenerated as what it is, which no training sees."""
        held_out = self.world.held_out
        return self._regenerated("held-out", settings, held_out, list(range(len(held_out))))

    def _regenerated(self, name: str, settings: Settings, sources: list[SourceImage], rows: list[int]) -> ImageSet:
        import torch

        from synood_ray.models.inpainters import open_inpainter
        from synood_ray.sampling.companions import regenerate

        path = CACHE / "images" / f"{name}-{self._digest(settings)}.safetensors"
        if not path.is_file():
            images = torch.stack(list(regenerate(sources, settings, open_inpainter(settings.inpainter))))
            pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
            _write(path, ImageSet(pixels, torch.tensor(rows), torch.full((len(images),), float("nan"))))
        return _read(path)

    def _loaded(self, settings: Settings) -> Models:
        from synood_ray.farm.preparing import relatives
        from synood_ray.sampling.produce import Models
        from synood_ray.storage import layout
        from synood_ray.storage.sources import encode_sources
        from synood_ray.storage.stores import open_store

        classes = self.world.classes
        with tempfile.TemporaryDirectory() as folder:
            store = open_store(folder)
            store.put_new(layout.ID_MANIFEST, encode_sources(self.world.sources))
            if self._parts is None:
                self._parts = self._opened(settings, store)
            inpainter, scorer, calibration = self._parts
            related = relatives(settings, store, classes, scorer)
        return Models(settings, classes, inpainter, scorer, calibration, relatives=related)

    def _opened(self, settings: Settings, store: Store) -> tuple[Inpainter, Scorer, Calibration]:
        """The models, and the boundary on the held-out images."""
        from synood_ray.farm.preparing import open_scorer
        from synood_ray.models.images import to_tensor
        from synood_ray.models.inpainters import open_inpainter
        from synood_ray.sampling.calibration import calibrate
        from synood_ray.sampling.loader import SourceLoader

        classes, held_out, loader = self.world.classes, self.world.held_out, SourceLoader(settings)
        inpainter, scorer = open_inpainter(settings.inpainter), open_scorer(settings, store, classes)
        batches = (
            to_tensor([loader.image(one) for one in held_out[i : i + 32]], inpainter.resolution)
            for i in range(0, len(held_out), 32)
        )
        return inpainter, scorer, calibrate(batches, inpainter, scorer, settings, classes)

    def _digest(self, settings: Settings) -> str:
        from synood_ray.storage.sources import sources_digest

        sources = fingerprint(settings, sources_digest(self.world.made_from()))
        return hashlib.sha256(f"{sources} {made_of(settings)}".encode()).hexdigest()[:12]


def made_of(settings: Settings) -> str:
    """Hex sha256 of what decides what an image becomes, beside settings and sources: the package's code, the models'
    folders, and whatever files the settings name beside the images."""
    models = settings.inpainter.model, settings.scorer.model
    named = [attrgetter(name)(settings) for name in READ if not name.startswith("data.")]
    paths = sorted(PACKAGE.rglob("*.py")) + [path for place in (*models, *named) for path in _files(place)]
    digest = hashlib.sha256()
    for path in paths:
        data = path.read_bytes()
        digest.update(f"{path.name} {len(data)} ".encode() + data)
    return digest.hexdigest()


def _files(place: str | None) -> list[Path]:
    """The files at a place, if it is one: the same setting may hold a word of ours."""
    path = Path(resolve(place or "")).expanduser()
    if place and path.is_dir():
        return sorted(below for below in path.rglob("*") if below.is_file())
    return [path] if place and path.is_file() else []


def _slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def _write(path: Path, made: ImageSet) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    cost = {"tried": made.tried, "calls": made.calls, "seconds": made.seconds}
    tensors = {"images": made.images, "sources": made.sources, "margins": made.margins}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"cost": json.dumps(cost)})
    part.replace(path)


def _read(path: Path) -> ImageSet:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in ("images", "sources", "margins")}
        cost = json.loads(file.metadata()["cost"])
    return ImageSet(**tensors, **cost)
