"""The rows of a run in pandas and in `datasets`: what was made, why samples were rejected, one image.

python examples/rows_of_a_run.py runs/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from datasets import load_dataset
from PIL import Image

run = Path(sys.argv[1])

# pandas reads the columns that it is asked for: the images stay on disk.
columns = ["key", "source_name", "prompt", "rounds", "margin", "accepted", "reject_reason"]
rows = pd.concat(pd.read_parquet(shard, columns=columns) for shard in sorted((run / "data").glob("train-*.parquet")))
print(f"{len(rows)} samples, {rows.accepted.mean():.0%} accepted after {rows.rounds.mean():.1f} rounds on average")
reasons = rows[~rows.accepted].reject_reason.value_counts()
print(reasons.to_string() if len(reasons) else "none rejected")
print(rows.sort_values("margin").head(3).to_string(index=False))

# datasets decodes images and knows the class names; `streaming=True` works for runs that do not fit on disk.
samples = load_dataset("parquet", data_files=str(run / "data" / "train-*.parquet"), split="train")
accepted = samples.filter(lambda accepted: accepted, input_columns="accepted")
first = accepted[0]
assert isinstance(first["image"], Image.Image)
print(f"{first['key']}: {first['image'].size} pixels, from a {first['source_name']}, margin {first['margin']:+.2f}")
