"""Fetch the openly licensed emoji drawings, fix the world's splits, render the sprites (run once).

Needs npm and network access; everything lands in a cache directory outside git. Licences: CREDITS beside this file.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import unicodedata
from io import BytesIO
from pathlib import Path
from typing import Any

from synood_ray.mini import ROOT
from synood_ray.mini.world import STYLES, TRAINING_STYLES

CACHE = ROOT.parents[1] / "build" / "mini"
SPRITE = 48  # px, main subjects are drawn at 34-42 px
SMALL_SPRITE = 24  # px, context objects are drawn at 13-18 px: a small rendering avoids aliasing

PACKAGES = {
    "noto": "@iconify-json/noto@1.2.9",
    "noto-v1": "@iconify-json/noto-v1@1.2.5",
    "fluent-emoji": "@iconify-json/fluent-emoji@1.2.7",
    "fluent-emoji-flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "emojione": "@iconify-json/emojione@1.2.3",
    "emojibase": "emojibase-data@17.0.0",  # names and subgroups
}

# Subgroups of Unicode's emoji list that make up the ID and near-OOD classes, with the word used in coarse captions.
CLASS_GROUPS = {
    "animal-mammal": "mammal",
    "animal-bird": "bird",
    "animal-marine": "sea animal",
    "animal-bug": "bug",
    "food-fruit": "fruit",
    "food-vegetable": "vegetable",
    "food-sweet": "sweet",
    "transport-ground": "vehicle",
    "transport-air": "aircraft",
    "musical-instrument": "musical instrument",
    "sport": "sport",
    "clothing": "clothing",
}
CONTEXTS = [
    "anchor",
    "star",
    "sun",
    "snowflake",
    "cactus",
    "palm tree",
    "evergreen tree",
    "deciduous tree",
    "tulip",
    "rose",
    "sunflower",
    "cherry blossom",
    "maple leaf",
    "key",
    "bell",
    "umbrella",
    "balloon",
    "trophy",
    "candle",
    "light bulb",
    "door",
    "bed",
    "camera",
    "castle",
    "church",
    "tent",
    "volcano",
    "fountain",
    "rainbow",
    "fire",
    "crescent moon",
    "alarm clock",
    "house",
    "hammer",
    "envelope",
    "cloud",
]
FAR_GROUPS = {"objects", "symbols", "flags"}  # the remaining concepts only teach CLIP further words


def fetch(cache: Path) -> None:
    """Download and unpack the npm packages into ``cache/npm`` (skips what is there)."""
    for name, package in PACKAGES.items():
        target = cache / "npm" / name
        if target.exists():
            continue
        work = cache / "npm" / f".{name}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", package], cwd=work, check=True, capture_output=True, text=True
        )
        shutil.unpack_archive(work / packed.stdout.split()[-1], work, "gztar", filter="data")
        (work / "package").rename(target)
        shutil.rmtree(work)


def plain(label: str, separator: str) -> str:
    """Lower-case ASCII form of a Unicode name; hyphens and apostrophes survive when separator is a space."""
    label = label.replace("’", "" if separator == "-" else "'")
    text = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+" if separator == "-" else r"[^a-z0-9'-]+", separator, text).strip(separator)


def icons(cache: Path) -> dict[str, dict[str, Any]]:
    return {s: json.loads((cache / "npm" / s / "icons.json").read_text(encoding="utf-8")) for s in STYLES}


def build_world(cache: Path) -> dict[str, Any]:
    """Names, subgroups and splits. Deterministic: depends on the pinned packages and the constants above only."""
    sets = {s: set(j["icons"]) | set(j.get("aliases", {})) for s, j in icons(cache).items()}
    meta = json.loads((cache / "npm" / "emojibase" / "meta" / "groups.json").read_text(encoding="utf-8"))
    entries = json.loads((cache / "npm" / "emojibase" / "en" / "data.json").read_text(encoding="utf-8"))
    concepts: dict[str, tuple[str, str, list[int]]] = {}
    major: dict[str, str] = {}
    for entry in entries:
        if "subgroup" not in entry:
            continue
        slug, name = plain(entry["label"], "-"), plain(entry["label"], " ")
        styles = [i for i, s in enumerate(STYLES) if slug in sets[s]]
        drawn = sum(i < len(TRAINING_STYLES) for i in styles)
        gendered = (
            re.match(r"(man|woman|men|women|boy|girl)s?\b", name) and meta["groups"][str(entry["group"])] != "objects"
        )
        if drawn >= 2 and not gendered and name not in concepts:
            concepts[name] = (slug, meta["subgroups"][str(entry["subgroup"])], styles)
            major[name] = meta["groups"][str(entry["group"])]
    missing = [c for c in CONTEXTS if c not in concepts or len(concepts[c][2]) < len(STYLES)]
    if missing:
        raise ValueError(f"contexts not drawn in every style: {missing}")

    split: dict[str, list[str]] = {k: [] for k in ("id", "near", "id_alternative", "near_alternative")}
    coin = random.Random(1)
    for group in CLASS_GROUPS:
        names = sorted(n for n, (_, g, styles) in concepts.items() if g == group and len(styles) >= 5)
        split["id"] += names[0::2]
        split["near"] += names[1::2]
        for i in range(0, len(names), 2):  # the alternative split: each neighbouring pair by a coin
            pair = names[i : i + 2]
            coin.shuffle(pair)
            split["id_alternative"].append(pair[0])
            split["near_alternative"] += pair[1:]
    used = set(split["id"]) | set(split["near"]) | set(CONTEXTS)
    far = [n for n, (_, g, _) in concepts.items() if n not in used and g not in CLASS_GROUPS and major[n] in FAR_GROUPS]
    other = [n for n in concepts if n not in used and n not in set(far)]
    return {
        "about": "concept name -> [icon slug, Unicode subgroup, indices into STYLES]; splits are lists of names",
        **split,
        "far": far,
        "context": list(CONTEXTS),
        "other": other,
        "concepts": concepts,
    }


def svg_of(icon_set: dict[str, Any], slug: str) -> str:
    while slug not in icon_set["icons"]:
        slug = icon_set["aliases"][slug]["parent"]
    icon = icon_set["icons"][slug]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = (icon.get(k, icon_set.get(k, 16)) for k in ("width", "height"))
    side = max(width, height)  # some icons are not square: centre them
    box = f"{left - (side - width) / 2} {top - (side - height) / 2} {side} {side}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{side}" height="{side}">{icon["body"]}</svg>'
    )


def render(cache: Path, world: dict[str, Any]) -> None:
    """Write ``sprites.safetensors``: big uint8 [N, 4, 48, 48], small [M, 4, 24, 24], their (style, concept) indices."""
    import numpy as np
    import resvg_py
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    icon_sets = icons(cache)
    names = list(world["concepts"])

    def draw(name: str, style: int, side: int) -> torch.Tensor:
        svg = svg_of(icon_sets[STYLES[style]], world["concepts"][name][0])
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side))
        return torch.from_numpy(np.array(Image.open(BytesIO(png)).convert("RGBA"))).permute(2, 0, 1)

    big, small = [], []
    for number, name in enumerate(names):
        for style in world["concepts"][name][2]:
            big.append((style, number, draw(name, style, SPRITE)))
            if name in CONTEXTS:
                small.append((style, number, draw(name, style, SMALL_SPRITE)))
    tensors = {}
    for key, rows in (("big", big), ("small", small)):
        tensors[key] = torch.stack([r[2] for r in rows]).contiguous()
        tensors[f"{key}_index"] = torch.tensor([r[:2] for r in rows])
    save_file(tensors, cache / "sprites.safetensors")
    print(f"{len(big)} sprites of {len(names)} concepts in {cache / 'sprites.safetensors'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where packages and sprites are kept")
    parser.add_argument(
        "--rebuild-world", action="store_true", help="write world.json anew (it is frozen: think twice)"
    )
    args = parser.parse_args()
    fetch(args.cache)
    world_file = ROOT / "world.json"
    if args.rebuild_world:
        record = build_world(args.cache)
        lines = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in record.items() if k != "concepts"]
        rows = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in record["concepts"].items()]
        text = "{\n" + ",\n".join([*lines, ' "concepts": {\n' + ",\n".join(rows) + "\n }"]) + "\n}\n"
        world_file.write_text(text, encoding="utf-8")
    render(args.cache, json.loads(world_file.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
