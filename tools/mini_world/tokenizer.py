"""The small byte-level BPE tokenizer that CLIP and the inpainting model share (any string encodes)."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAD, START, END = "<|pad|>", "<|startoftext|>", "<|endoftext|>"
VOCABULARY = 2560
PROMPT_WORDS = (
    "a an the this that is of with and near photo picture image drawing showing nice some no not nothing none"
)


def words(texts: Iterable[str]) -> list[str]:
    """The distinct words of the texts, sorted."""
    return sorted({w for text in texts for w in re.findall(r"[a-z]+|[0-9]", text.lower())})


def kept_tokenizer(texts: Iterable[str], kept: Path, length: int) -> Any:
    """A ``CLIPTokenizer`` learnt on texts the first time, and kept in a folder.

    The trainer breaks ties in an order of its own in every process: a training that went on with a tokenizer learnt
    anew would read some words as others.
    """
    from transformers import CLIPTokenizer

    if not kept.exists():
        train_tokenizer(texts, length).save_pretrained(kept)
    return CLIPTokenizer.from_pretrained(kept)


def train_tokenizer(texts: Iterable[str], length: int) -> Any:
    """A ``CLIPTokenizer`` whose merges are learnt on the given texts' words, each word counted once.

    The end token has the highest id (open_clip pools there), padding has an own token with id 0.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 256, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(words(texts), trainer)
    merges: Any = [tuple(m) for m in _merges(learner)]
    tokens = [PAD, *alphabet, *(c + "</w>" for c in alphabet), *("".join(m) for m in merges), START, END]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        model_max_length=length,
    )


def _merges(learner: Any) -> list[list[str]]:
    import json

    return [m.split(" ") if isinstance(m, str) else m for m in json.loads(learner.to_str())["model"]["merges"]]
