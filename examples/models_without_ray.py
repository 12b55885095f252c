"""Boundary sampling as one would do it in a notebook: the models, a boundary, a few samples. No Ray, no run folder.

    python examples/models_without_ray.py build/example        # writes samples.png there

Uses the bundled miniature world, whose Parquet files name each scene's context; `open_describer` asks a model instead.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from synood_ray.cli.layers import load_preset, resolve
from synood_ray.data.selection import select
from synood_ray.data.source import open_source
from synood_ray.locations import resolve as path_of
from synood_ray.models.describers.base import Context
from synood_ray.models.images import to_tensor
from synood_ray.models.inpainters import open_inpainter
from synood_ray.models.scorer import Scorer
from synood_ray.records import SampleTask, sample_seed
from synood_ray.sampling.calibration import calibrate
from synood_ray.sampling.loader import SourceLoader
from synood_ray.sampling.produce import Models, produce
from synood_ray.sampling.relatives import find_relatives

COUNT, HELD_OUT = 8, 64
settings, _ = resolve([load_preset("mini")])
settings.sampling.mllm_check = False  # nobody is asked here
folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)

selection = select(open_source(settings.data.uri, settings.data), settings.data)
names = [info.name for info in selection.classes]
sources = selection.sources[:: len(selection.sources) // COUNT][:COUNT]
inpainter = open_inpainter(settings.inpainter)
scorer = Scorer(settings.scorer, names)

# The boundary: the score that keeps 95 % of held-out ID images.
loader = SourceLoader(settings)
held_out = selection.calibration[:: len(selection.calibration) // HELD_OUT]
images = to_tensor([loader.image(source) for source in held_out], inpainter.resolution)
calibration = calibrate([images], inpainter, scorer, settings, names)
print(f"boundary at {calibration.tau:.2f}, ID standard deviation {calibration.sigma:.2f}")

table = pq.read_table(path_of(settings.data.uri), columns=["context"]).column("context").to_pylist()
tasks = [
    SampleTask(f"{i:03d}", unit=0, source=source, draw=0, seed=sample_seed(settings.seed, source.key, 0))
    for i, source in enumerate(sources)
]
words = {task.key: ", ".join(table[int(task.source.key.rpartition("#")[2])]) for task in tasks}
contexts = {key: Context(text, text) for key, text in words.items()}
# What may be blended with what: classes of one group here; elsewhere WordNet's families, or the nearest texts.
related = find_relatives(settings.prompts, names, None, None)
rows = produce(tasks, contexts, Models(settings, names, inpainter, scorer, calibration, relatives=related))
for row in rows:
    outcome = "accepted" if row.accepted else row.reject_reason
    trace = " ".join(f"{margin:+.2f}" for margin in row.margin_trace)
    print(f"{row.source_name:14} {outcome:10} margins {trace:24} {row.prompt}")

side = 2 * inpainter.resolution
sheet = Image.new("RGB", (COUNT * side, 2 * side))
for column, (source, row) in enumerate(zip(sources, rows, strict=True)):
    made = Image.open(io.BytesIO(row.image)) if row.image else Image.new("RGB", (1, 1))
    for line, picture in enumerate((loader.image(source), made)):
        sheet.paste(picture.resize((side, side)), (column * side, line * side))
sheet.save(folder / "samples.png")
print("modules:", " ".join(sorted({name.partition(".")[0] for name in sys.modules} & {"ray", "torch", "diffusers"})))
