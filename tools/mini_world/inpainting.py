"""The small inpainting pipeline: stock diffusers classes, small configurations, saved in half precision."""

import json
from pathlib import Path
from typing import Any

TEXT_WIDTH = 128
LENGTH = 32  # tokens of a prompt

UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 9,  # noisy latent 4, mask 1, latent of the masked image 4
    "out_channels": 4,
    # The 16x16 level has no residual block on the way down: it serves as a cheap patch embedding. It must be wide
    # enough (64, not 32), and its groups too (8 channels each): what it loses, no later block brings back.
    "block_out_channels": (64, 128, 192),
    "layers_per_block": (0, 2, 1),
    "down_block_types": ("DownBlock2D",) * 3,
    "up_block_types": ("UpBlock2D",) * 3,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
    "resnet_time_scale_shift": "scale_shift",  # time and text scale every block's features, not only shift them
    # A pooled text vector joins the time embedding and so reaches every block.
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "time_embedding_dim": 384,  # the default, four times the first width, is too narrow for 224 names
}
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": False,  # the cosine schedule already ends at almost pure noise
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,  # unused by trailing spacing; the pipeline warns about any other value
}


def new_text_encoder(tokenizer: Any) -> Any:
    """A small ``CLIPTextModel`` for this tokenizer, randomly initialised."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def assemble(vae: Any, unet: Any, text_encoder: Any, tokenizer: Any) -> Any:
    """A ``StableDiffusionInpaintPipeline`` of these parts, without a safety checker."""
    from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline

    return StableDiffusionInpaintPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(**SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export(folder: Path, vae: Any, unet: Any, text_encoder: Any, tokenizer: Any) -> None:
    """Save copies of the parts to ``folder`` in float16; ``from_pretrained`` gives float32 back."""
    import copy

    vae, unet, text_encoder = (copy.deepcopy(part).half().eval() for part in (vae, unet, text_encoder))
    assemble(vae, unet, text_encoder, tokenizer).save_pretrained(folder, safe_serialization=True)
    # transformers loads in the dtype that the configuration names, diffusers in float32: ask for float32 in both
    config = folder / "text_encoder" / "config.json"
    record = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(record | {"dtype": "float32"}, indent=2) + "\n", encoding="utf-8")
    for part in (folder / "vae" / "config.json", folder / "unet" / "config.json"):
        record = json.loads(part.read_text(encoding="utf-8"))
        record.pop("_name_or_path", None)  # where it was loaded from: a path of this machine
        part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
