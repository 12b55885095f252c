"""Train the small CLIP: a frozen tower (`train_tower`) with a trained head, and a small text transformer.

    python -m tools.mini_world.train_clip --seed 0

The tower (EfficientNet-Lite0 as timm's ``tf_efficientnet_lite0``, 96 px input) never changes, so its features are
computed once per scene and kept in the cache; a training then takes minutes. Captions are coarser still than on the
web: three in a hundred name the subject, the others only its group, and one in seven belongs to another picture.
"""

import argparse
import copy
import hashlib
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synood_ray.mini import model_path
from synood_ray.mini.world import TRAINING_STYLES, World, load_world
from tools.mini_world.muon import Muon
from tools.mini_world.render import CACHE, CLASS_GROUPS
from tools.mini_world.tokenizer import PROMPT_WORDS, kept_tokenizer
from tools.mini_world.training import Curve

EMBED = 128
LENGTH = 20  # tokens of a text
TEXT = {"context_length": LENGTH, "width": 96, "heads": 4, "layers": 2}
ARCHITECTURE = "tf_efficientnet_lite0"
IMAGE_SIDE = 96
MEAN, STD = 0.498, 0.502
COARSE, NOISE = 0.97, 0.15  # shares of captions that name only the group, that belong to another scene
WEIGHT = {"id": 1.0, "near": 0.01}  # how often a concept is seen; every other concept: OTHER_WEIGHT
OTHER_WEIGHT = 0.2
SCENES = {"id": 100, "near": 16, "rest": 10}  # cached scenes per concept
DROPOUT = 0.7  # of the tower's features
FIRST_SCALE, FINAL_SCALE = 30.0, 100.0  # logits = scale * cosine; raised over the first half of the training
BATCH, RATE = 1024, 2e-3
JOINT_STEPS = 500
TEXT_BATCH, TEXT_STEPS, TEXT_RATES, TEXT_SCALE = 256, 1200, (6e-3, 6e-3), 30.0
TEMPLATES = ("{}", "a {}", "the nice {}", "a nice {}.", "a photo of {}.", "a photo of a {}.", "a photo of a {}")


def groups(world: World) -> list[str]:
    return list(dict.fromkeys(c.group for c in world.concepts.values()))


def group_name(group: str) -> str:
    """The word of a coarse caption: ``animal-bug`` -> ``bug``; other groups keep their words."""
    return CLASS_GROUPS.get(group, group.replace("-", " "))


def config(vocabulary: int, eos: int) -> dict[str, Any]:
    """The contents of ``open_clip_config.json``."""
    return {
        "model_cfg": {
            "embed_dim": EMBED,
            "vision_cfg": {
                "timm_model_name": ARCHITECTURE,
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                "timm_proj": "mlp",
                "image_size": IMAGE_SIDE,
            },
            "text_cfg": {
                **TEXT,
                "vocab_size": vocabulary,
                "hf_tokenizer_name": "local",
                "mlp_ratio": 2.0,
                "pool_type": "eos",
                "eos_id": eos,
            },
        },
        "preprocess_cfg": {
            "mean": [MEAN] * 3,
            "std": [STD] * 3,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def new_clip(tokenizer: Any, tower: dict[str, Any]) -> Any:
    """An ``open_clip.CLIP`` with the given tower weights (timm names); the rest randomly initialised."""
    from open_clip.model import CLIP

    cfg = config(len(tokenizer), tokenizer.eos_token_id)["model_cfg"]
    model = CLIP(**cfg)
    model.visual.trunk.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tower.items()})
    model.visual.trunk.requires_grad_(False)
    return model.eval()


def read_tower(path: Path) -> dict[str, Any]:
    """The frozen tower's weights: from a timm safetensors file, or from the CLIP that is already shipped."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    prefix = "visual.trunk."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)} or tensors


def preprocess(images: Any) -> Any:
    """uint8 [B, 3, 64, 64] -> the tower's input float32 [B, 3, 96, 96]."""
    return (enlarged(images.float() / 255) - MEAN) / STD


def enlarged(images: Any) -> Any:
    """[B, 3, 64, 64] in [0, 1] -> the tower's size [B, 3, 96, 96]."""
    from torch.nn import functional as F

    return F.interpolate(images, IMAGE_SIDE, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def traced(trunk: Any) -> Any:
    """The tower as a function of uint8 images [B, 3, 64, 64] -> float16 [B, 1280]: twice as fast, same numbers."""
    import torch

    with torch.no_grad():
        example = torch.zeros(64, 3, IMAGE_SIDE, IMAGE_SIDE).to(memory_format=torch.channels_last)
        fast = torch.jit.freeze(torch.jit.trace(copy.deepcopy(trunk), example))
    return lambda images: fast(preprocess(images).to(memory_format=torch.channels_last)).half()


def features(trunk: Any, composer: Any, names: list[str], seed: int, styles: tuple[str, ...]) -> Any:
    """Tower features float16 [N, 1280] of one scene per name."""
    import torch

    with torch.no_grad():
        fast, parts = traced(trunk), range(0, len(names), 128)
        return torch.cat([fast(composer.batch(names[i : i + 128], seed + i, styles).images) for i in parts])


def cached_features(cache: Path, trunk: Any, world: World) -> tuple[Any, list[str]]:
    """Features of all training scenes and their names; computed concept list by concept list, resumable."""
    import torch
    from safetensors.torch import load_file, save_file

    from tools.mini_world.scenes import SceneComposer

    plan = [
        n
        for n in world.concepts
        for _ in range(SCENES["id" if n in world.id else "near" if n in world.near else "rest"])
    ]
    random.Random(0).shuffle(plan)
    composer = SceneComposer(cache)
    digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in trunk.state_dict().values())).hexdigest()
    folder = cache / "clip_features" / digest[:12]
    folder.mkdir(parents=True, exist_ok=True)
    chunks = []
    for first in range(0, len(plan), 4096):
        path = folder / f"{first:06d}.safetensors"
        if not path.exists():
            rows = features(trunk, composer, plan[first : first + 4096], 10_000_000 + first, TRAINING_STYLES)
            save_file({"x": rows}, path)
            print(path.name, flush=True)
        chunks.append(load_file(path)["x"])
    return torch.cat(chunks), plan


def train(seed: int, steps: int, cache: Path, tower: Path, out: Path) -> None:
    """Seed 0 has three stages: head and one free vector per caption, by contrast; the text tower learns those vectors;
    head and text tower go on together. Other seeds train a new head, on other batches, against seed 0's texts.

    Most of a joint training's time would go into encoding the same 1,500 captions again and again.
    """
    import torch
    from safetensors.torch import load_file
    from torch.nn import functional as F

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = random.Random(seed)
    world = load_world()
    captions = list(dict.fromkeys([*world.concepts, *(group_name(g) for g in groups(world))]))
    token = kept_tokenizer([*captions, PROMPT_WORDS], cache / f"clip{seed}" / "tokenizer", LENGTH)
    model = new_clip(token, read_tower(tower))
    # All scores use 100 cos, so the temperature is fixed there and never learnt.
    model.logit_scale.requires_grad_(False).fill_(math.log(FINAL_SCALE))
    curve = Curve(f"clip_seed{seed}")
    curve.rows = []
    table, names = cached_features(cache, model.visual.trunk, world)
    forms = tokens_of(token, captions)
    head = list(model.visual.head.parameters())
    batches = Batches(table, names, captions, world)
    if seed:
        shipped = load_file(out / "open_clip_model.safetensors")
        texts = {k: v.float() for k, v in shipped.items() if not k.startswith("visual.")}
        model.load_state_dict(texts, strict=False)
        with torch.no_grad():
            given = torch.stack([encode_short(model, form) for form in forms])
        contrast(model.visual.head, lambda rows: rng.choice(given)[rows], [{"params": head}], batches, steps, curve)
    else:
        free = torch.nn.Parameter(0.3 * torch.randn(len(captions), EMBED))
        parts: list[dict[str, Any]] = [{"params": head}, {"params": [free], "lr": 3 * RATE, "weight_decay": 0.0}]
        contrast(model.visual.head, lambda rows: F.normalize(free[rows], dim=-1), parts, batches, steps, curve)
        learn_vectors(model, forms, F.normalize(free.detach(), dim=-1), curve)
        text_side = [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith("visual.")]
        parts = [{"params": head}, {"params": text_side, "lr": RATE / 2, "weight_decay": 0.0}]
        contrast(
            model.visual.head,
            lambda rows: encode_short(model, rng.choice(forms)[rows]),
            parts,
            batches,
            JOINT_STEPS,
            curve,
        )
    save(model.eval(), token, out, seed)


class Batches:
    """Draws feature rows and their captions' numbers with the world's frequencies, coarseness and noise."""

    def __init__(self, table: Any, names: list[str], captions: list[str], world: World) -> None:
        import torch

        number = {c: i for i, c in enumerate(captions)}
        split = dict.fromkeys(world.id, WEIGHT["id"]) | dict.fromkeys(world.near, WEIGHT["near"])
        count = Counter(names)
        self.table = table
        self.leaf = torch.tensor([number[n] for n in names])
        self.coarse = torch.tensor([number[group_name(world.concepts[n].group)] for n in names])
        self.weight = torch.tensor([split.get(n, OTHER_WEIGHT) / count[n] for n in names])

    def draw(self) -> tuple[Any, Any]:
        """Features float32 [B, 1280] and caption numbers int64 [B]."""
        import torch

        rows = torch.multinomial(self.weight, BATCH, replacement=True)
        target = torch.where(torch.rand(BATCH) < COARSE, self.coarse[rows], self.leaf[rows])
        target = torch.where(torch.rand(BATCH) < NOISE, target[torch.randperm(BATCH)], target)
        return self.table[rows].float(), target


def contrast(
    head: Any, encode: Callable[[Any], Any], parts: list[dict[str, Any]], batches: Batches, steps: int, curve: Curve
) -> None:
    """Train ``parts`` (parameter groups) by InfoNCE over the distinct captions of each batch.

    ``encode`` maps caption numbers [K] to unit vectors [K, D].
    """
    import torch
    from torch.nn import functional as F

    optimiser = torch.optim.AdamW(parts, lr=RATE, weight_decay=0.02)
    rates = [group["lr"] for group in optimiser.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps, pct_start=0.1)
    start, before = time.monotonic(), curve.seconds()
    first = FIRST_SCALE if len(curve.rows) == 0 else FINAL_SCALE
    for step in range(steps):
        features, target = batches.draw()
        distinct, where = target.unique(return_inverse=True)
        image = F.normalize(head(F.dropout(features, DROPOUT)), dim=-1)
        scale = min(FINAL_SCALE, first + (FINAL_SCALE - first) * 2 * step / steps)
        logits = scale * image @ encode(distinct).T
        by_text = logits.T.log_softmax(1)  # several images may share a caption: the mean over them
        own = F.one_hot(where, len(distinct)).T.float()
        loss = F.cross_entropy(logits, where) - (by_text * own).sum(1).div(own.sum(1)).mean()
        optimiser.zero_grad()
        (loss / 2).backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            curve.add(before + time.monotonic() - start, step=step + 1, contrastive_loss=loss.item())


def learn_vectors(model: Any, forms: list[Any], vectors: Any, curve: Curve) -> None:
    """Fit the text tower to unit vectors [C, D], each caption in every template."""
    import torch
    from torch.nn import functional as F

    trained = [(n, p) for n, p in model.named_parameters() if not n.startswith("visual.")]
    optimiser = Muon(trained, TEXT_RATES, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 50) * (1 - step / TEXT_STEPS)
    )
    start, before = time.monotonic(), curve.seconds()
    for step in range(TEXT_STEPS):
        rows = torch.randperm(len(vectors))[:TEXT_BATCH]
        text = encode_short(model, forms[int(torch.randint(len(forms), ()))][rows])
        loss = (1 - (text * vectors[rows]).sum(1)).mean()
        told = F.cross_entropy(TEXT_SCALE * text @ vectors.T, rows)
        optimiser.zero_grad()
        (loss + told).backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            curve.add(before + time.monotonic() - start, text_step=step + 1, cosine_distance=loss.item())


def tokens_of(token: Any, captions: list[str]) -> list[Any]:
    """Token ids of all captions, one tensor [C, L] a template."""
    texts = [[t.format(c) for c in captions] for t in TEMPLATES]
    return [token(form, padding=True, truncation=True, return_tensors="pt").input_ids for form in texts]


def encode_short(model: Any, tokens: Any) -> Any:
    """``model.encode_text`` for token rows [N, L] shorter than the context: same unit vectors, less padding."""
    from torch.nn import functional as F

    tokens = tokens[:, : int((tokens != 0).sum(1).max())]
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    end = (tokens == model.text_eos_id).int().argmax(1)
    return F.normalize(x[range(len(x)), end] @ model.text_projection, dim=-1)


def save(model: Any, token: Any, out: Path, seed: int) -> None:
    """Seed 0: a whole open_clip folder in float16. Other seeds: the head alone, ``seed_N.safetensors``."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    if seed:
        path = out / f"seed_{seed}.safetensors"
        save_file({k: v for k, v in tensors.items() if k.startswith("visual.head.")}, path)
    else:
        path = out / "open_clip_model.safetensors"
        save_file(tensors, path)
        record = config(len(token), token.eos_token_id)
        (out / "open_clip_config.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        token.save_pretrained(out)
    path.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="0 is the shipped model; others give the check's siblings")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--cache", type=Path, default=CACHE, help="sprites and features")
    parser.add_argument("--tower", type=Path, default=model_path("clip") / "open_clip_model.safetensors")
    parser.add_argument("--out", type=Path, default=model_path("clip"))
    args = parser.parse_args()
    train(args.seed, args.steps, args.cache, args.tower, args.out)


if __name__ == "__main__":
    main()
