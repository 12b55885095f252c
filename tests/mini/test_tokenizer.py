"""The tokenizer is learnt once: whoever asks again, in another process too, reads the same ids."""

from pathlib import Path

from synood_ray.mini.world import load_world
from tools.mini_world.tokenizer import kept_tokenizer


def test_a_training_that_goes_on_reads_with_the_tokenizer_it_began_with(tmp_path: Path) -> None:
    names, kept = list(load_world().concepts), tmp_path / "tokenizer"
    first = kept_tokenizer(names, kept, 32)
    stored = (kept / "tokenizer.json").read_bytes()
    again = kept_tokenizer(names, kept, 32)
    assert (kept / "tokenizer.json").read_bytes() == stored
    texts = [f"A photo of {name}." for name in names]
    assert first(texts).input_ids == again(texts).input_ids
    assert again.model_max_length == 32 and again.pad_token_id == 0
