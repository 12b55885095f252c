"""Train the miniature multimodal LLM from nothing: `python -m tools.mini_world.train_mllm` (about an hour, one thread).

Two parts. First the vision tower alone learns what every patch shows (a third of the time); then the whole model
learns to answer questions, with the vision losses going on beside it. The learning rate follows the wall clock, so
that a slower machine makes fewer steps, not a longer run. Interrupted, the same command goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from synood_ray.mini import ROOT, model_path
from tools.mini_world import mllm_build, mllm_net
from tools.mini_world.mllm_data import LabelledScenes, SceneSource, disturb
from tools.mini_world.mllm_questions import Packer, corpus
from tools.mini_world.render import CACHE
from tools.mini_world.scenes import SceneComposer

BATCH = 128
POOL = 64  # batches of scenes kept; every fourth step adds a new one, so a scene is seen about four times
VISION_SHARE = 0.3  # of the time, before the language model joins
MATRIX_LR = 8e-3  # Muon, for the matrices of the blocks
LR = 2e-3  # AdamW, for everything else
FILL_SEED = 2**30  # the first scenes after a start or restart
EVAL_SEED = 2**31  # training draws stay below


class Pool:
    """Recently composed scenes, from which batches are drawn; composing costs a third of a training step."""

    def __init__(self, source: SceneSource, seed: int) -> None:
        self.source, self.seed = source, seed
        self.items: list[LabelledScenes] = []

    def grow(self, step: int) -> None:
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        scenes = self.source.batch(self.source.draw_subjects(BATCH, rng), self.seed * 1_000_003 + step)
        self.items = [*self.items[-POOL + 1 :], scenes]

    def draw(self, rng: random.Random) -> LabelledScenes:
        places = [(rng.choice(self.items), rng.randrange(BATCH)) for _ in range(BATCH)]
        return LabelledScenes(
            torch.stack([s.images[i] for s, i in places]),
            [s.subjects[i] for s, i in places],
            [s.contexts[i] for s, i in places],
            torch.stack([s.patches[i] for s, i in places]),
        )


class Trainer:
    """Model, teacher, optimizers and their checkpoint (safetensors and JSON)."""

    def __init__(self, source: SceneSource, minutes: float, checkpoint: Path, seed: int) -> None:
        torch.manual_seed(seed)
        self.source, self.seconds, self.checkpoint, self.seed = source, minutes * 60, checkpoint, seed
        self.tokenizer = mllm_build.build_tokenizer(corpus(source))
        self.packer = Packer(source, self.tokenizer)
        self.model = mllm_build.build_model(self.tokenizer)
        self.teacher = mllm_net.Teacher(self.model.model.visual.patch_embed.embed_dim, self._name_ids())
        named = [*self.model.named_parameters(), *self.teacher.named_parameters()]
        matrices = [p for n, p in named if p.ndim == 2 and (".blocks." in n or ".layers." in n)]
        chosen = {id(p) for p in matrices}
        rest = [p for _, p in named if id(p) not in chosen]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=MATRIX_LR, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=LR, weight_decay=0.01, betas=(0.9, 0.98), fused=True),
        ]
        self.rates = [MATRIX_LR, LR]
        self.step, self.elapsed = 0, 0.0
        self.curve: list[dict[str, float]] = []
        self.see = torch.compile(mllm_net.see)
        self.read = torch.compile(mllm_net.read)

    def _name_ids(self) -> torch.Tensor:
        ids = [self.tokenizer.encode(f" {name}") for name in self.source.classes]
        width = max(map(len, ids))
        return torch.tensor([row + [-1] * (width - len(row)) for row in ids])

    def progress(self) -> float:
        return min(1.0, self.elapsed / self.seconds)

    def losses(self, scenes: LabelledScenes, images: torch.Tensor, rng: random.Random) -> dict[str, torch.Tensor]:
        """The losses of one batch, and shares of right answers (names ending in _right)."""
        labels = mllm_net.merge_order(scenes.patches)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            patches, tokens = self.see(self.model.model.visual, images)
            patch, patch_right = self.teacher.patch_loss(patches, labels)
            embedding = self.model.model.language_model.embed_tokens.weight
            name = self.teacher.name_loss(tokens, labels, embedding)
            out = {"patch": patch, "name": name, "patch_right": patch_right}
            if self.progress() < VISION_SHARE:
                return out
            packed = self.packer.pack(scenes, rng)
            hidden = self.read(self.model, packed.ids, tokens, packed.positions, packed.allowed)
            answered = packed.targets >= 0
            logits = self.model.lm_head(hidden[answered]).float()
        target, check = packed.targets[answered], packed.checks[answered]
        each = F.cross_entropy(logits, target, reduction="none")
        right = (logits.argmax(1) == target).float()
        listed = ~check
        return out | {
            "list": each[listed].mean(),
            "check": each[check].mean(),
            "list_right": right[listed].mean(),
            "check_right": right[check].mean(),
        }

    def train_step(self, scenes: LabelledScenes) -> dict[str, float]:
        rng = torch.Generator().manual_seed(self.seed * 7919 + self.step)
        images = disturb(scenes.images.float() / 255, rng)
        done = self.progress()
        # warm up at the start and where the language model joins, then decay over the second half
        rate = min(1.0, (self.step + 1) / 100) * min(1.0, 2 * (1 - done) + 0.01)
        for optimizer, base in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * rate
        out = self.losses(scenes, images, random.Random(self.seed * 7919 + self.step))
        loss = sum(v for k, v in out.items() if not k.endswith("_right"))
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return {k: float(v.detach()) for k, v in out.items()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The losses and shares on 256 fresh scenes, unchanged by augmentation."""
        sums: dict[str, float] = {}
        for part in range(2):
            rng = torch.Generator().manual_seed(EVAL_SEED + part)
            scenes = self.source.batch(self.source.draw_subjects(BATCH, rng), EVAL_SEED + part)
            for key, value in self.losses(scenes, scenes.images.float() / 255, random.Random(part)).items():
                sums[key] = sums.get(key, 0.0) + float(value) / 2
        return sums

    def save(self) -> None:
        from safetensors.torch import save_file

        self.checkpoint.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items() if k != "lm_head.weight"}
        tensors |= {f"teacher.{k}": v for k, v in self.teacher.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{index}.{k}": v for k, v in state.items()}
        record = {"step": self.step, "elapsed": self.elapsed, "seconds": self.seconds, "curve": self.curve}
        whole = {k: v.detach().contiguous().clone() for k, v in tensors.items()}
        save_file(whole, self.checkpoint / "new.safetensors", metadata={"record": json.dumps(record)})
        (self.checkpoint / "new.safetensors").replace(self.checkpoint / "state.safetensors")

    def load(self) -> bool:
        """Go on from the checkpoint, if there is one."""
        from safetensors import safe_open

        path = self.checkpoint / "state.safetensors"
        if not path.exists():
            return False
        with safe_open(path, framework="pt") as f:
            record = json.loads(f.metadata()["record"])
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (not a dict)
        self.model.load_state_dict(_under(tensors, "model."), strict=False)
        self.model.tie_weights()
        self.teacher.load_state_dict(_under(tensors, "teacher."))
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Any]] = {}
            for key, value in _under(tensors, f"optimizer.{number}.").items():
                index, name = key.split(".", 1)
                state.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self.step, self.elapsed, self.curve = record["step"], record["elapsed"], record["curve"]
        return True

    def export(self, out: Path) -> None:
        mllm_build.save(self.model, mllm_build.build_processor(self.tokenizer), out)


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def train(trainer: Trainer, save_every: float = 400.0) -> None:
    pool = Pool(trainer.source, trainer.seed)
    if trainer.load():
        print(f"going on at step {trainer.step}, {trainer.elapsed / 60:.1f} min", flush=True)
    for number in range(16):
        pool.grow(FILL_SEED + trainer.step + number)
    saved = last = time.monotonic()
    recent: list[dict[str, float]] = []
    while trainer.progress() < 1:
        if trainer.step % 4 == 0:
            pool.grow(trainer.step)
        recent.append(trainer.train_step(pool.draw(random.Random(trainer.seed + trainer.step))))
        now = time.monotonic()
        trainer.elapsed += now - last
        last = now
        if trainer.step % 50 == 0:
            means = {k: sum(r[k] for r in recent) / len(recent) for k in recent[-1] if k in recent[0]}
            print(f"{trainer.elapsed / 60:5.1f} min step {trainer.step} {_short(means)}", flush=True)
            recent = []
        if now - saved > save_every or trainer.progress() >= 1:
            point = {"minutes": trainer.elapsed / 60, "step": trainer.step} | trainer.evaluate()
            trainer.curve.append({k: round(v, 4) for k, v in point.items()})
            print("  fresh scenes:", _short(point), flush=True)
            trainer.save()
            saved = last = time.monotonic()


def _short(values: dict[str, float]) -> str:
    return " ".join(f"{k} {v:.3f}" for k, v in values.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--out", type=Path, default=model_path("mllm"))
    parser.add_argument("--curve", type=Path, default=ROOT / "curves" / "mllm.json")
    parser.add_argument("--checkpoint", type=Path, default=CACHE / "mllm", help="where to go on from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    trainer = Trainer(SceneSource(SceneComposer()), args.minutes, args.checkpoint, args.seed)
    train(trainer)
    trainer.export(args.out)
    args.curve.parent.mkdir(parents=True, exist_ok=True)
    args.curve.write_text(json.dumps(trainer.curve, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
