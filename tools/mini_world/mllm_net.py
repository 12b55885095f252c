"""Batched forward passes of the miniature Qwen2-VL for training: every image is 64x64, so nothing is ragged.

transformers' own forward runs the vision attention image by image; these give the same numbers (see the test) in
one call, and let several questions share one image in one sequence.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tools.mini_world.mllm_build import IMAGE_TOKENS, MERGE, PATCH

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)  # the processor's image_mean and image_std
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
FIRST_IMAGE_POSITION = 4  # after <|im_start|> user \n <|vision_start|>


def patchify(images: torch.Tensor) -> torch.Tensor:
    """float [B, 3, H, W] in [0, 1] -> normalised patches [B, N, 3 * 2 * 8 * 8] in Qwen2-VL's order.

    The order groups the 2x2 patches that one token merges; the image stands for both frames of the temporal patch.
    """
    x = (images - MEAN) / STD
    b, c, h, w = x.shape
    rows, cols = h // PATCH // MERGE, w // PATCH // MERGE
    x = x.view(b, c, rows, MERGE, PATCH, cols, MERGE, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
    x = x.reshape(b, rows * cols * MERGE * MERGE, c, 1, PATCH * PATCH)
    return x.expand(-1, -1, -1, 2, -1).reshape(b, x.shape[1], -1)


def merge_order(labels: torch.Tensor) -> torch.Tensor:
    """Patch labels [B, 64] row by row -> the same in the order of `patchify`."""
    side = round(labels.shape[1] ** 0.5)
    x = labels.view(-1, side // MERGE, MERGE, side // MERGE, MERGE)
    return x.transpose(2, 3).reshape(len(labels), -1)


def rotary(visual: Any, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin [N, head_dim] of the vision tower's two-dimensional rotary positions for a square image."""
    from transformers.models.qwen2_vl.modeling_qwen2_vl import get_vision_position_ids

    side = round(tokens**0.5)
    positions = get_vision_position_ids(torch.tensor([[1, side, side]]), MERGE, kwargs={})
    cos, sin = visual.rotary_pos_emb(torch.zeros(1), positions)
    return cos, sin


def see(visual: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The vision tower on float images [B, 3, 64, 64] in [0, 1].

    Returns the patch tokens [B, 64, embed_dim] and the merged image tokens [B, 16, hidden_size].
    """
    patches = patchify(images)
    b, n, _ = patches.shape
    weight = visual.patch_embed.proj.weight
    x = F.linear(patches, weight.view(weight.shape[0], -1))
    cos, sin = rotary(visual, n)
    for block in visual.blocks:
        heads = block.attn.num_heads
        q, k, v = block.attn.qkv(block.norm1(x)).view(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
        q, k = (t * cos.to(t.dtype) + _half_turn(t) * sin.to(t.dtype) for t in (q, k))
        # written out: on a CPU the backward pass of the fused attention takes five times as long at this size
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).to(v.dtype)
        mixed = weights @ v
        x = x + block.attn.proj(mixed.transpose(1, 2).reshape(b, n, -1))
        x = x + block.mlp(block.norm2(x))
    return x, visual.merger(x).view(b, n // MERGE**2, -1)


def _half_turn(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def read(
    model: Any, ids: torch.Tensor, image_tokens: torch.Tensor, positions: torch.Tensor, allowed: torch.Tensor
) -> torch.Tensor:
    """The language model on packed questions: last hidden states [B, L, hidden_size].

    ids int64 [B, L] whose image placeholders start at FIRST_IMAGE_POSITION; positions int64 [3, B, L];
    allowed bool [B, 1, L, L], True where a row may attend to a column.
    """
    text = model.model.language_model
    x = text.embed_tokens(ids)
    start, end = FIRST_IMAGE_POSITION, FIRST_IMAGE_POSITION + IMAGE_TOKENS
    x = torch.cat([x[:, :start], image_tokens.to(x.dtype), x[:, end:]], dim=1)
    b, length, _ = x.shape
    cos, sin = (t[:, None] for t in text.rotary_emb(x, positions))
    bias = torch.where(allowed, 0.0, -1e4)
    for layer in text.layers:
        attn = layer.self_attn
        y = layer.input_layernorm(x)
        q, k, v = (
            project(y).view(b, length, -1, attn.head_dim).transpose(1, 2)
            for project in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        q, k = (t * cos.to(t.dtype) + _half_turn(t) * sin.to(t.dtype) for t in (q, k))
        k, v = (t.repeat_interleave(attn.num_key_value_groups, dim=1) for t in (k, v))
        weights = ((q @ k.transpose(-1, -2)) * attn.scaling + bias.to(q.dtype)).softmax(-1).to(v.dtype)
        x = x + attn.o_proj((weights @ v).transpose(1, 2).reshape(b, length, -1))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    hidden: torch.Tensor = text.norm(x)
    return hidden


class Teacher(nn.Module):
    """Two auxiliary losses that tell the vision tower what every patch shows. Trains beside the model, is not shipped.

    names: class names (index 0 is "nothing", the last is "other") as token ids, padded with -1: int64 [K, W].
    """

    names: torch.Tensor

    def __init__(self, width: int, names: torch.Tensor) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, len(names))
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.register_buffer("names", names)

    def patch_loss(self, patches: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of a linear read-out of the patch tokens [B, 64, width]; labels int64 [B, 64].

        Also returns the share of object patches that are named right.
        """
        logits = self.out(self.norm(patches)).float().flatten(0, 1)
        flat = labels.flatten()
        weight = torch.where(flat == 0, 0.2, 1.0)  # background patches are many and easy
        loss = (F.cross_entropy(logits, flat, reduction="none") * weight).sum() / weight.sum()
        right = (logits.argmax(1) == flat)[flat > 0].float().mean()
        return loss, right

    def name_loss(self, image_tokens: torch.Tensor, labels: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Contrast of image tokens [B, 16, hidden] with the mean word embedding of every class name.

        So the image speaks the language model's language before that has learned to listen. The target of a token is
        the share of each class in its four patches (labels int64 [B, 64] in merge order); background is left out.
        """
        kinds = len(self.names)
        share = F.one_hot(labels.view(-1, MERGE**2), kinds).float()[:, :, 1 : kinds - 1].sum(1)
        rows = torch.nonzero(share.sum(1) > 0).flatten()
        target = share[rows] / share[rows].sum(1, keepdim=True)
        present = (self.names[1 : kinds - 1] >= 0)[..., None]
        words = F.embedding(self.names[1 : kinds - 1].clamp(min=0), embedding) * present
        words = F.normalize(words.sum(1).float(), dim=1)
        tokens = F.normalize(image_tokens.flatten(0, 1)[rows].float(), dim=1)
        return F.cross_entropy(tokens @ words.T * self.scale, target)
