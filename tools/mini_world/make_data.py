"""Compose the shipped images: Parquet files in Hugging Face's image layout, and the word list.

    python -m tools.mini_world.make_data

Seeds lie above every training seed, so no shipped scene was ever trained on.
"""

import argparse
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from synood_ray.mini import data_path
from synood_ray.mini.world import TEST_STYLE, TRAINING_STYLES, World, load_world
from tools.mini_world.render import CACHE

# file -> (split, scenes per name, styles). far names are sampled one scene each; far_val and far_test share no name.
FILES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "id_train": ("id", 10, TRAINING_STYLES),
    "id_val": ("id", 4, TRAINING_STYLES),
    "id_test": ("id", 4, TRAINING_STYLES),
    "near_val": ("near", 4, TRAINING_STYLES),
    "near_test": ("near", 4, TRAINING_STYLES),
    "far_val": ("far", 1, TRAINING_STYLES),
    "far_test": ("far", 1, TRAINING_STYLES),
    "id_unseen": ("id", 2, (TEST_STYLE,)),
    "near_unseen": ("near", 2, (TEST_STYLE,)),
}
QUALITY = 90
ROW_GROUP = 100


def names_of(file: str, world: World) -> list[str]:
    """The scenes' subjects in a file, in row order (sorted by class)."""
    split, each, styles = FILES[file]
    names = list(getattr(world, split))
    if split == "far":
        names = names[file == "far_test" :: 2]
    drawn = [n for n in names if any(s in world.concepts[n].styles for s in styles)]
    return [n for n in drawn for _ in range(each)]


def jpeg(image: Any) -> bytes:
    """uint8 tensor [3, H, W] -> JPEG bytes without chroma subsampling."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def write(file: str, cache: Path, world: World) -> int:
    """Compose and write one Parquet file; returns its size in bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tools.mini_world.scenes import DATA_SEED, SceneComposer

    names = names_of(file, world)
    seed = DATA_SEED + int(hashlib.sha256(file.encode()).hexdigest()[:8], 16)
    scenes = SceneComposer(cache, world).batch(names, seed, FILES[file][2])
    classes = list(getattr(world, FILES[file][0]))
    features = {
        "image": {"_type": "Image"},
        "label": {"names": classes, "_type": "ClassLabel"},
        "name": {"dtype": "string", "_type": "Value"},
        "style": {"dtype": "string", "_type": "Value"},
        "box": {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"},
        "context": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
    }
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
            ("name", pa.string()),
            ("style", pa.string()),
            ("box", pa.list_(pa.int32())),
            ("context", pa.list_(pa.string())),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    images = [{"bytes": jpeg(image), "path": f"{file}-{row:05d}.jpg"} for row, image in enumerate(scenes.images)]
    table = pa.table(
        {
            "image": images,
            "label": [classes.index(n) for n in names],
            "name": names,
            "style": scenes.styles,
            "box": scenes.boxes.tolist(),
            "context": scenes.contexts,
        },
        schema=schema,
    )
    path = data_path(f"{file}.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=ROW_GROUP, compression="zstd")
    return path.stat().st_size


def write_groups(world: World) -> None:
    """groups.csv: the Unicode subgroup of every ID class, for blends of related classes."""
    rows = [f"{name},{world.concepts[name].group}" for name in world.id]
    data_path("groups.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_words(world: World) -> None:
    """words.txt: candidates for negative labels, every concept name that is not an ID class (the main split)."""
    words = sorted(set(world.concepts) - set(world.id))
    data_path("words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the sprites are")
    args = parser.parse_args()
    world = load_world()
    write_words(world)
    write_groups(world)
    total = 0
    for file in FILES:
        size = write(file, args.cache, world)
        total += size
        print(f"{file:12} {size / 1e6:.2f} MB", flush=True)
    print(f"{'all':12} {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
