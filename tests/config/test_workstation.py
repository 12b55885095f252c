"""The preset for one GPU of 24 GB: what its models weigh at their published sizes, counted without any weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.fullsize import stable_diffusion_2
from synood_ray.cli.layers import load_preset, resolve

GPU = 24.0  # GiB
SPARE = 2.0
"""GiB that either half needs beside its weights: vLLM for its cache, the sampler for activations and CUDA itself."""
QWEN_3B: dict[str, Any] = {
    "text_config": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 2048},
    "tie_word_embeddings": True,
}


def gib(models: list[torch.nn.Module], bytes_each: int) -> float:
    return bytes_each * sum(p.numel() for model in models for p in model.parameters()) / 2**30


@pytest.mark.real
def test_describer_and_sampler_fit_on_one_gpu_of_24_gb() -> None:
    import open_clip
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    settings, _ = resolve([load_preset("workstation")])
    assert settings.describer.model == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert settings.inpainter.model == "sd2-community/stable-diffusion-2-inpainting"
    farm = settings.farm
    assert (farm.describers.max * farm.describers.gpus, farm.samplers.max * farm.samplers.gpus) == (0.5, 0.5)
    with torch.device("meta"):
        mllm = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**QWEN_3B))
        clip = open_clip.create_model(settings.scorer.model, device="meta")
        pipe = stable_diffusion_2()
    weights = gib([mllm], 2)
    assert 3.5e9 < weights * 2**30 / 2 < 4.0e9  # the model's own count: 3.75 billion
    share = settings.describer.gpu_memory_utilization
    assert weights + SPARE < share * GPU
    sampler = gib([pipe.unet, pipe.vae, pipe.text_encoder], 2) + gib([clip], 4)
    assert sampler + 2 * SPARE < (1 - share) * GPU


def test_it_is_imagenets_in_all_that_decides_the_detector() -> None:
    one, other = (resolve([load_preset(name)])[0] for name in ("workstation", "imagenet"))
    for section in ("data", "inpainter", "scorer", "labels", "detector", "evaluation"):
        assert getattr(one, section) == getattr(other, section)
