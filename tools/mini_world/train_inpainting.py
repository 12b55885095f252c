"""Train the inpainting UNet and its text encoder on latents of composed scenes.

    python -m tools.mini_world.train_inpainting --minutes 80

Needs the trained VAE in models/inpainting/vae. Resumes from its checkpoint; the moving average is exported every few
minutes, so a run can be cut short at any time. ``--minutes`` also sets the learning rate's decay.
"""

import argparse
import random
import time
from pathlib import Path
from typing import Any

from synood_ray.mini import model_path
from synood_ray.mini.world import World
from tools.mini_world import inpainting
from tools.mini_world.muon import Muon
from tools.mini_world.render import CACHE
from tools.mini_world.scenes import SIDE, Layout, Scenes
from tools.mini_world.tokenizer import PROMPT_WORDS, kept_tokenizer
from tools.mini_world.training import Curve, load_checkpoint, save_checkpoint

BATCH = 96
RATES = (6e-3, 2e-3)  # Muon, Adam
STYLES = ("noto", "noto", "noto", "fluent-emoji-flat")  # the first learnt thrice as often: more would need hours
ID_SHARE = 0.52  # of the subjects; the others are near classes: every name about as often
LAYOUT = Layout(subject=(37.0, 42.0), rotation=0.0, flip=0.0)
SUBJECTLESS = 0.12  # share of scenes without a subject, captioned by their contexts alone
EMPTY_CAPTION = 0.08  # for classifier-free guidance
OUTSIDE_WEIGHT = 0.2  # loss weight of latents outside the mask
# The pool of encoded scenes: at the start, at most, and what is added every REFILL_STEPS.
FIRST_SCENES, MOST_SCENES, NEW_SCENES, REFILL_STEPS = 4096, 40960, 512, 100
EXPORT_SECONDS = 300
TEXT_STEPS, TEXT_BATCH, TEXT_RATE = 500, 192, 3e-3


def mask_boxes(scenes: Scenes, rng: random.Random) -> list[tuple[int, int, int, int]]:
    """One mask box per scene: around the subject (tight or square, padded), the whole image, or anywhere."""
    boxes = []
    for x0, y0, x1, y1 in scenes.boxes.tolist():
        kind = rng.random()
        if kind < 0.1:
            boxes.append((0, 0, SIDE, SIDE))
            continue
        if kind < 0.65:  # square: the box does not give the shape away
            side = max(x1 - x0, y1 - y0)
            x0, y0 = (x0 + x1 - side) // 2, (y0 + y1 - side) // 2
            x1, y1 = x0 + side, y0 + side
        elif kind > 0.96:  # elsewhere: teaches to continue what is there
            x0, y0 = rng.randrange(36), rng.randrange(36)
            x1, y1 = x0 + rng.randrange(12, 29), y0 + rng.randrange(12, 29)
        pad = rng.randint(1, 5)
        boxes.append((max(0, x0 - pad), max(0, y0 - pad), min(SIDE, x1 + pad), min(SIDE, y1 + pad)))
    return boxes


def caption(subject: str | None, contexts: list[str], covered: bool, rng: random.Random) -> str:
    """Subject first, then some of the contexts; sometimes nothing. ``covered``: the mask hides the subject."""
    if rng.random() < EMPTY_CAPTION:
        return ""
    contexts = rng.sample(contexts, rng.randint(0 if subject else 1, len(contexts)))
    named = [subject] if subject and (covered or rng.random() < 0.5) else []
    items = ", ".join([*named, *contexts])
    return f"A photo of {items}." if rng.random() < 0.7 and items else items


class Pool:
    """Encoded scenes: latents, latents of the masked image, masks, and what the captions are made of."""

    def __init__(self, composer: Any, vae: Any, rng: random.Random) -> None:
        import torch

        self.composer, self.vae, self.rng = composer, vae, rng
        self.latents = torch.empty(MOST_SCENES, 4, SIDE // 4, SIDE // 4)
        self.conditions = torch.empty(MOST_SCENES, 5, SIDE // 4, SIDE // 4)  # mask, masked image's latent
        self.truths: list[tuple[str | None, list[str], bool]] = []
        self.next = 0

    def add(self, count: int) -> None:
        """Encode new scenes; once the pool is full the oldest ones go."""
        import torch
        from torch.nn import functional as F

        world = self.composer.world
        names = [self.subject(world) for _ in range(count)]
        scenes = self.composer.batch(names, self.rng.randrange(2**31), STYLES, LAYOUT)
        images = scenes.images.float() / 127.5 - 1
        masks = torch.zeros(count, 1, SIDE, SIDE)
        for row, (x0, y0, x1, y1) in enumerate(mask_boxes(scenes, self.rng)):
            masks[row, :, y0:y1, x0:x1] = 1
        with torch.no_grad():  # exactly what StableDiffusionInpaintPipeline does with image and mask
            latents = self.vae.encode(images).latent_dist.sample()
            masked = self.vae.encode(images * (masks < 0.5)).latent_dist.sample()
        hidden = (scenes.alpha * masks).sum((1, 2, 3)) > 0.5 * scenes.alpha.sum((1, 2, 3))
        small = F.interpolate(masks, SIDE // 4)  # nearest
        rows = torch.arange(self.next, self.next + count) % MOST_SCENES
        self.latents[rows], self.conditions[rows] = latents, torch.cat([small, masked], 1)
        for row, truth in zip(rows.tolist(), zip(names, scenes.contexts, hidden.tolist(), strict=True), strict=True):
            self.truths[row : row + 1] = [truth]
        self.next += count

    def subject(self, world: World) -> str | None:
        if self.rng.random() < SUBJECTLESS:
            return None
        return self.rng.choice(world.id if self.rng.random() < ID_SHARE else world.near)

    def caption(self, row: int) -> str:
        subject, contexts, covered = self.truths[row]
        return caption(subject, contexts, covered, self.rng)

    def draw(self, count: int) -> tuple[Any, Any, list[str]]:
        import torch

        rows = torch.tensor(self.rng.choices(range(len(self.truths)), k=count))
        return self.latents[rows], self.conditions[rows], [self.caption(r) for r in rows.tolist()]


def learn_to_read(model: Any, token: Any, pool: Pool, world: World) -> None:
    """Teach text encoder and pooling to tell subjects and contexts apart before any image is drawn.

    Learnt from the images alone, names that share colours stay confused for an hour. The linear readout is thrown away.
    """
    import torch
    from torch.nn import functional as F

    subjects = {name: i for i, name in enumerate((None, *world.id, *world.near))}
    contexts = {name: i for i, name in enumerate(world.context)}
    width = model["unet"].config.time_embedding_dim
    readout = torch.nn.Linear(width, len(subjects) + len(contexts))
    trained = [*model["text"].parameters(), *model["unet"].add_embedding.parameters(), *readout.parameters()]
    optimiser = torch.optim.AdamW(trained, lr=TEXT_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, TEXT_RATE, total_steps=TEXT_STEPS, pct_start=0.1)
    rng = random.Random(0)
    names, kinds = list(subjects), list(contexts)
    for step in range(TEXT_STEPS):
        subject = rng.choices(names, k=TEXT_BATCH)
        shown = [rng.sample(kinds, rng.randint(0 if s else 1, 3)) for s in subject]
        listed = [", ".join([*([s] if s else []), *c]) for s, c in zip(subject, shown, strict=True)]
        texts = [f"A photo of {t}." if rng.random() < 0.7 else t for t in listed]
        tokens = token(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        output = readout(model["unet"].add_embedding(model["text"](tokens).last_hidden_state))
        present = torch.zeros(TEXT_BATCH, len(contexts))
        for row, items in enumerate(shown):
            present[row, [contexts[i] for i in items]] = 1
        loss = F.cross_entropy(output[:, : len(subjects)], torch.tensor([subjects[s] for s in subject]))
        loss = loss + F.binary_cross_entropy_with_logits(output[:, len(subjects) :], present)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % 50 == 0:
            print(f"reading, step {step + 1}: loss {loss.item():.4f}", flush=True)


def train(minutes: float, cache: Path, destination: Path, seed: int, shipped: bool, threads: int) -> None:
    import math

    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
    from transformers import CLIPTextModel

    from tools.mini_world.scenes import SceneComposer

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    composer = SceneComposer(cache)
    kept = model_path("inpainting") / "tokenizer" if shipped else cache / "inpainting-tokenizer"
    world = composer.world
    token = kept_tokenizer([*world.id, *world.near, *world.context, PROMPT_WORDS], kept, inpainting.LENGTH)
    vae = AutoencoderKL.from_pretrained(model_path("inpainting") / "vae").float().eval()
    if shipped:
        folder = model_path("inpainting")
        unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet").float()
        parts = {"unet": unet, "text": CLIPTextModel.from_pretrained(folder / "text_encoder").float()}
    else:
        parts = {"unet": UNet2DConditionModel(**inpainting.UNET), "text": inpainting.new_text_encoder(token)}
    model = torch.nn.ModuleDict(parts)
    average: Any = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.996))
    optimiser = Muon(model.named_parameters(), RATES)
    path = cache / "inpainting.safetensors"
    step = load_checkpoint(path, model, average.module, optimiser)
    average.n_averaged += step
    scheduler: Any = DDIMScheduler(**inpainting.SCHEDULER)
    curve = Curve("inpainting", destination)
    if not step:
        curve.rows = []
    rng = random.Random(seed * 7919 + step)
    torch.manual_seed(seed * 7919 + step)
    pool = Pool(composer, vae, rng)
    for _ in range(FIRST_SCENES // NEW_SCENES):
        pool.add(NEW_SCENES)
    print(f"step {step}, {len(pool.truths)} scenes encoded", flush=True)
    if not step and not shipped:
        learn_to_read(model, token, pool, world)
        average.module.load_state_dict(model.state_dict())

    def export() -> None:
        save_checkpoint(path, step, model, average.module, optimiser)
        staging = cache / "inpainting-export"
        inpainting.export(staging, vae, average.module["unet"], average.module["text"], token)
        for file in [f for f in staging.rglob("*") if f.is_file()]:  # readers never see a half-written file
            target = destination / file.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)

    start, previous = time.monotonic(), curve.seconds()
    exported, losses = start, []
    while (elapsed := previous + time.monotonic() - start) < minutes * 60:
        if step % REFILL_STEPS == 0:
            pool.add(NEW_SCENES)
        done = elapsed / (minutes * 60)
        for group, rate in zip(optimiser.param_groups, RATES, strict=True):
            group["lr"] = rate * min(1.0, (step + 1) / 200) * max(0.02, 0.5 + 0.5 * math.cos(math.pi * done))
        latents, condition, captions = pool.draw(BATCH)
        tokens = token(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        times = ((torch.randperm(BATCH) + torch.rand(BATCH)) / BATCH * 1000).long()  # stratified over the batch
        noise = torch.randn_like(latents)
        noisy = scheduler.add_noise(latents, noise, times)
        target = scheduler.get_velocity(latents, noise, times)
        with torch.autocast("cpu", torch.bfloat16):
            states = model["text"](tokens).last_hidden_state
            output = model["unet"](torch.cat([noisy, condition], 1), times, states).sample
        weight = OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * condition[:, :1]
        loss = ((output.float() - target).square() * weight).mean() / weight.mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(model)
        step += 1
        losses.append(loss.item())
        if step % 200 == 0:
            curve.add(elapsed, step=step, loss=sum(losses) / len(losses))
            losses = []
        if time.monotonic() - exported > EXPORT_SECONDS:
            exported = time.monotonic()
            export()
    export()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=80, help="training time in all, earlier runs counted")
    parser.add_argument("--cache", type=Path, default=CACHE, help="sprites and checkpoints")
    parser.add_argument("--output", type=Path, default=model_path("inpainting"), help="where the pipeline is saved")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shipped", action="store_true", help="without a checkpoint: go on from the shipped weights")
    args = parser.parse_args()
    train(args.minutes, args.cache, args.output, args.seed, args.shipped, args.threads)


if __name__ == "__main__":
    main()
