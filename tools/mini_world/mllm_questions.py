"""Questions and answers about labelled scenes, packed so that all questions about one image share it.

Two kinds: name the context objects without the subject, and say whether the image shows something. The first
template of each is the default of the describer's settings; the others keep the model from hanging on one wording.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from synood_ray.config.models import DescriberSettings
from tools.mini_world.mllm_build import IMAGE_TOKENS
from tools.mini_world.mllm_data import LabelledScenes, SceneSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LIST_TEMPLATES = (
    DescriberSettings().question,
    "What is in this image besides the {subject}? Answer with short names separated by commas.",
    "Name everything around the {subject}, separated by commas.",
    "List the things in the background of this image. Answer with short names separated by commas.",
    "What else is in the image?",
)
CHECK_TEMPLATES = (
    DescriberSettings().check_question,
    "Does the image show a {subject}? Answer yes or no.",
    "Is there a {subject} in this image? Answer yes or no.",
    "Is this a {subject}? Answer yes or no.",
)
DEFAULT_SHARE = 0.6  # how often the default template is asked
EMPTY = "plain background"  # the answer where no context object can be seen
CHECKS = 3  # yes/no questions an image


def corpus(source: SceneSource) -> list[str]:
    """Texts whose every word the tokenizer makes one token: templates, names at the start and after a space."""
    names = [*source.subjects, *source.contexts, EMPTY]
    frame = ["user\n", "assistant\n", "system\n", "yes", "no", " yes", " no", ", "]
    return [*LIST_TEMPLATES, *CHECK_TEMPLATES, *frame, *names, *(f" {name}" for name in names)]


def list_question(subject: str, rng: random.Random) -> str:
    template = LIST_TEMPLATES[0] if rng.random() < DEFAULT_SHARE else rng.choice(LIST_TEMPLATES[1:])
    return template.format(subject=subject)


def check_question(subject: str, rng: random.Random) -> str:
    template = CHECK_TEMPLATES[0] if rng.random() < DEFAULT_SHARE else rng.choice(CHECK_TEMPLATES[1:])
    return template.format(subject=subject)


def list_answer(contexts: list[str], rng: random.Random) -> str:
    """The names in random order: greedy decoding then begins with the one that the model is surest of."""
    return ", ".join(rng.sample(contexts, len(contexts))) or EMPTY


def pick_check(source: SceneSource, subject: str | None, contexts: list[str], rng: random.Random) -> tuple[str, bool]:
    """A name and whether the scene shows it: half of them yes where there is something to say yes to.

    Negatives are mostly subjects of the same subgroup (fox | wolf), else any other subject or an absent context object.
    """
    known = subject in source.classes
    if rng.random() < 0.5 and (known or contexts):
        if known and (rng.random() < 0.85 or not contexts):
            assert subject is not None
            return subject, True
        return rng.choice(contexts), True
    kind = rng.random()
    if known and kind < 0.65:
        group = source.groups[source.composer.world.concepts[str(subject)].group]
        return rng.choice([name for name in group if name != subject]), False
    if kind < 0.85:
        return rng.choice([name for name in source.subjects if name != subject]), False
    return rng.choice([name for name in source.contexts if name not in contexts]), False


@dataclass
class Packed:
    """B sequences of length L: ids int64 [B, L]; positions int64 [3, B, L]; allowed bool [B, 1, L, L] (True: may
    attend); targets int64 [B, L]: the next token where it belongs to an answer, else -100; checks bool [B, L]: the
    place holds a yes/no answer."""

    ids: torch.Tensor
    positions: torch.Tensor
    allowed: torch.Tensor
    targets: torch.Tensor
    checks: torch.Tensor


class Packer:
    """Turns labelled scenes into packed sequences: image, one listing question, `CHECKS` yes/no questions.

    Each question sees the image and itself only and stands where it would stand alone, so the model learns exactly
    what it will be asked.
    """

    def __init__(self, source: SceneSource, tokenizer: PreTrainedTokenizerFast, length: int = 120) -> None:
        self.source, self.length = source, length
        self._tokenizer = tokenizer
        head, tail = self._frame("\0")
        self._prefix = tokenizer.encode(head)
        at = self._prefix.index(tokenizer.convert_tokens_to_ids("<|image_pad|>"))
        self._prefix[at : at + 1] = self._prefix[at : at + 1] * IMAGE_TOKENS
        self._tail = tail
        self._end, self._pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        self._encode = cache(lambda text: tuple(tokenizer.encode(text)))
        side = round(IMAGE_TOKENS**0.5)
        rows = torch.arange(IMAGE_TOKENS) // side
        cols = torch.arange(IMAGE_TOKENS) % side
        start = torch.arange(at)
        last = at + side  # the token after the image continues behind the longer side of its grid
        image = torch.stack([torch.full((IMAGE_TOKENS,), at), at + rows, at + cols])
        after = torch.arange(last, last + len(self._prefix) - at - IMAGE_TOKENS)
        self._prefix_positions = torch.cat([start.expand(3, -1), image, after.expand(3, -1)], dim=1)
        self._first = last + len(after)  # position of a question's first token

    def _frame(self, question: str) -> tuple[str, str]:
        """What the chat template puts before and after the question."""
        content: Any = [{"type": "image"}, {"type": "text", "text": question}]
        text = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        head, tail = str(text).split(question)
        return head, tail

    def pack(self, scenes: LabelledScenes, rng: random.Random) -> Packed:
        """Draw questions for every scene. Questions that no longer fit into the length are left out."""
        count, length = len(scenes.subjects), self.length
        ids = torch.full((count, length), self._pad)
        targets = torch.full((count, length), -100)
        segments = torch.full((count, length), -1)
        positions = torch.zeros(3, count, length, dtype=torch.long)
        checks = torch.zeros(count, length, dtype=torch.bool)
        n = len(self._prefix)
        ids[:, :n] = torch.tensor(self._prefix)
        segments[:, :n] = 0
        positions[:, :, :n] = self._prefix_positions[:, None]
        for row, (subject, contexts) in enumerate(zip(scenes.subjects, scenes.contexts, strict=True)):
            named = subject or rng.choice(self.source.subjects)
            asked = [(list_question(named, rng), list_answer(contexts, rng))]
            for _ in range(CHECKS):
                name, shown = pick_check(self.source, subject, contexts, rng)
                asked.append((check_question(name, rng), "yes" if shown else "no"))
            at = n
            for number, (question, answer) in enumerate(asked, start=1):
                before = self._encode(question + self._tail)
                tokens = [*before, *self._answer(answer), self._end]
                stop = at + len(tokens)
                if stop > length:
                    break
                ids[row, at:stop] = torch.tensor(tokens)
                targets[row, at + len(before) - 1 : stop - 1] = torch.tensor(tokens[len(before) :])
                if number > 1:
                    checks[row, at + len(before) - 1] = True
                segments[row, at:stop] = number
                positions[:, row, at:stop] = torch.arange(self._first, self._first + len(tokens))
                at = stop
        same = segments[:, :, None] == segments[:, None, :]
        allowed = (same | (segments[:, None, :] == 0)) & torch.ones(length, length, dtype=torch.bool).tril()
        return Packed(ids, positions, allowed[:, None], targets, checks)

    def _answer(self, answer: str) -> list[int]:
        first, *others = answer.split(", ")
        tokens = [*self._encode(first)]
        for name in others:
            tokens += [*self._encode(","), *self._encode(f" {name}")]
        return tokens
