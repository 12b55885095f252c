"""The miniature multimodal LLM's architecture, tokenizer, processor and chat template.

The class is `Qwen2VLForConditionalGeneration`, exactly what users run at full size, with about 3.7 M parameters:
images are brought to 64x64 (patches of 8, merged 2x2: 16 image tokens), the text part is a three-layer Qwen2.
What is written by `save` loads with transformers and with vLLM.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

IMAGE_SIZE = 64  # pixels; the processor brings square images of any size to this
PATCH = 8
MERGE = 2
IMAGE_TOKENS = (IMAGE_SIZE // PATCH // MERGE) ** 2

SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
VISION = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]

# The image comes before the question whatever order the client sent, because the model was trained that way:
# the words of the question then attend to the image, and matching the two is one attention step.
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] in ('image', 'image_url') %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% endif %}{% endfor %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose merges make every word of `texts` one token; any other string still encodes (bytes)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()  # "Red Fox" and "red fox" are the same words
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=20_000,  # never reached: merging ends when every word is whole
        min_frequency=1,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in SPECIAL + VISION])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=VISION,
        model_max_length=1024,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2VLForConditionalGeneration:
    """A randomly initialised model for this tokenizer; the caller seeds torch."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    token: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL + VISION}
    special: dict[str, Any] = {
        "bos_token_id": token["<|im_start|>"],
        "eos_token_id": token["<|im_end|>"],
        "pad_token_id": token["<|pad|>"],
    }
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 320,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            **special,
        },
        vision_config={
            "depth": 6,
            "embed_dim": 160,
            "hidden_size": 128,
            "num_heads": 5,
            "mlp_ratio": 3,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
        },
        tie_word_embeddings=True,
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
        **special,
    )
    model = Qwen2VLForConditionalGeneration(config)
    for key, value in special.items():
        setattr(model.generation_config, key, value)
    return model


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen2VLProcessor:
    """Resizes to 64x64 (other aspect ratios: about as many pixels, multiples of 16) and normalises as CLIP does."""
    import transformers
    from transformers import Qwen2VLProcessor, Qwen2VLVideoProcessor

    # transformers 5 has a PIL class beside the torchvision one; the bounds leave room for rounding around 64 * 64
    image_class = getattr(transformers, "Qwen2VLImageProcessorPil", None) or transformers.Qwen2VLImageProcessor
    size = {"shortest_edge": 4000, "longest_edge": 4200}
    layout = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2}
    return Qwen2VLProcessor(
        image_processor=image_class(size=size, **layout),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=size, **layout),
        chat_template=CHAT_TEMPLATE,
    )


def save(model: Qwen2VLForConditionalGeneration, processor: Qwen2VLProcessor, out: Path) -> None:
    """Writes half-precision weights, configuration, tokenizer and processor to the folder `out`."""
    import copy

    import torch

    half: Any = copy.deepcopy(model)
    half.to(torch.float16).save_pretrained(out)
    processor.save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone
