"""Batches of one size."""

from __future__ import annotations

import pytest
import torch

from synood_ray.config.models import InpainterSettings
from synood_ray.sampling.batches import arithmetic, filled, full_size, in_full


def test_the_last_item_stands_in_for_what_is_missing() -> None:
    assert filled([1, 2], 4) == [1, 2, 2, 2]
    assert filled([1, 2], 2) == [1, 2]


def test_a_stream_is_cut_into_full_batches_that_know_their_own_items() -> None:
    assert list(in_full(iter(range(5)), 2)) == [([0, 1], 2), ([2, 3], 2), ([4, 4], 1)]
    assert list(in_full([], 3)) == []


@pytest.mark.parametrize(("threads", "asked", "size"), [(1, 5, 5), (2, 5, 6), (2, 6, 6), (3, 1, 3)])
def test_every_thread_has_whole_images(monkeypatch: pytest.MonkeyPatch, threads: int, asked: int, size: int) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert full_size(asked) == size


def test_another_precision_batch_or_number_of_threads_is_another_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    def words(dtype: str = "float32", size: int = 8) -> str:
        return arithmetic(InpainterSettings.model_validate({"dtype": dtype}), torch.device("cpu"), size)

    found = {words(), words("bfloat16"), words(size=16)}
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    assert len(found | {words()}) == 4 and words() == words()
    assert torch.__version__ in words() and "batches of 8" in words()
