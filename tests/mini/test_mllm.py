"""The miniature multimodal LLM's training parts: labels, questions with known truth, and the batched forward passes."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from synood_ray.mini import model_path
from synood_ray.mini.world import load_world

if TYPE_CHECKING:
    from tools.mini_world.mllm_data import LabelledScenes, SceneSource


@pytest.fixture(scope="module")
def source() -> SceneSource:
    from tools.mini_world.mllm_data import SceneSource

    return SceneSource(cast(Any, SimpleNamespace(world=load_world())))  # the names are enough, no sprites


@pytest.fixture(scope="module")
def scenes() -> LabelledScenes:
    import torch

    from tools.mini_world.mllm_data import LabelledScenes

    images = torch.randint(256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    contexts = [["tent", "maple leaf"], [], ["bell"]]
    return LabelledScenes(images, ["fox", "red apple", None], contexts, torch.zeros(3, 64, dtype=torch.long))


def test_a_patch_is_named_after_its_largest_object() -> None:
    import torch

    from tools.mini_world.mllm_data import patch_labels

    pixels = torch.zeros(1, 64, 64, dtype=torch.long)
    pixels[0, 0:8, 8:12] = 5  # half of patch 1
    pixels[0, 0:8, 12:15] = 3  # three eighths of it
    pixels[0, 8, 0:8] = 7  # an eighth of patch 8: too little
    expected = torch.zeros(64, dtype=torch.long)
    expected[1] = 5
    assert torch.equal(patch_labels(pixels)[0], expected)


def test_labels_follow_the_patches_into_merge_order() -> None:
    import torch

    from tools.mini_world.mllm_net import MEAN, STD, merge_order, patchify

    number = torch.arange(64)
    images = (number.view(8, 8).repeat_interleave(8, 0).repeat_interleave(8, 1) / 64).expand(1, 3, 64, 64)
    patches = patchify(images).view(1, 64, 3, 2, 64)
    assert torch.equal(patches[:, :, :, 0], patches[:, :, :, 1])  # both frames
    pixels = (patches[0, :, :, 0] * STD.view(3, 1) + MEAN.view(3, 1)).mean((1, 2)) * 64
    assert torch.equal(pixels.round().long(), merge_order(number[None])[0])


def test_questions_are_answered_truthfully_and_evenly(source: SceneSource) -> None:
    from tools.mini_world.mllm_questions import list_answer, pick_check

    rng = random.Random(0)
    group = set(source.groups[load_world().concepts["fox"].group])
    checks = [pick_check(source, "fox", ["tent"], rng) for _ in range(2000)]
    assert all(shown == (name in {"fox", "tent"}) for name, shown in checks)
    assert abs(sum(shown for _, shown in checks) / 2000 - 0.5) < 0.05
    refused = [name for name, shown in checks if not shown]
    assert 0.55 < sum(name in group for name in refused) / len(refused) < 0.8
    assert not any(shown for _, shown in (pick_check(source, None, [], rng) for _ in range(100)))
    assert set(list_answer(["tent", "bell"], rng).split(", ")) == {"tent", "bell"}


def test_known_words_are_one_token_and_any_text_encodes(source: SceneSource) -> None:
    from tools.mini_world.mllm_build import build_tokenizer
    from tools.mini_world.mllm_questions import corpus

    tokenizer = build_tokenizer(corpus(source))
    for name in source.subjects + source.contexts:
        assert len(tokenizer.encode(f" {name}")) <= sum(
            1 + part.count("'") for part in name.replace("-", " - ").split()
        )
    for text in ("Ein Füchslein 🦊", "a\tb\n\nc", "<x> {y}"):
        assert tokenizer.decode(tokenizer.encode(text)) == text.lower()


@pytest.mark.real
def test_packed_questions_give_the_logits_of_transformers(source: SceneSource, scenes: LabelledScenes) -> None:
    import torch
    from PIL import Image
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

    from tools.mini_world import mllm_net
    from tools.mini_world.mllm_questions import Packer

    folder = str(model_path("mllm"))
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    model = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    tokenizer = processor.tokenizer
    packed = Packer(source, tokenizer).pack(scenes, random.Random(1))
    with torch.no_grad():
        _, image_tokens = mllm_net.see(model.model.visual, scenes.images.float() / 255)
        hidden = mllm_net.read(model, packed.ids, image_tokens, packed.positions, packed.allowed)
        ours = model.lm_head(hidden)
    ends = (packed.ids == tokenizer.eos_token_id).nonzero().tolist()
    for row in range(len(scenes.subjects)):
        # the second question, which stands behind the first one's answer in the packed sequence
        stops = [column for at, column in ends if at == row]
        start, ask_end = stops[1] + 1, stops[2]
        question = tokenizer.decode(packed.ids[row, start:ask_end])
        content = [{"type": "text", "text": question}, {"type": "image"}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        pixels = scenes.images[row].permute(1, 2, 0).numpy()
        inputs = processor(text=[text], images=[Image.fromarray(pixels)], return_tensors="pt")
        with torch.no_grad():
            theirs = model(**inputs).logits[0, -1]
        answer_at = int(packed.checks[row].nonzero()[0])
        assert torch.allclose(ours[row, answer_at], theirs, atol=1e-3, rtol=1e-3)
