"""What the inpainting model's training is asked to draw, and what it is told of that."""

import random
from collections import Counter

import torch

from synood_ray.mini.world import load_world
from tools.mini_world.between import Between
from tools.mini_world.train_inpainting import NEAR_BETWEEN, SHARES, SUBJECTLESS, Pool, conditions


def pool(between: float, seed: int = 0) -> Pool:
    """Without anything encoded."""
    return Pool(None, None, random.Random(seed), between)


def test_pairs_are_as_frequent_as_asked_and_never_of_id_and_near_names() -> None:
    world, asked = load_world(), pool(0.6)
    drawn = [asked.subject(world) for _ in range(6000)]
    kinds = Counter()
    for one in drawn:
        names = (one.own, one.other) if isinstance(one, Between) else (one,)
        known = {name in world.id for name in names if name}
        assert len(known) <= 1
        if known:
            kinds[known.pop(), len(names)] += 1
        if isinstance(one, Between):
            assert one.own != one.other and SHARES[0] <= one.share <= SHARES[1]
            assert set(world.concepts[one.own].styles) & set(world.concepts[one.other].styles)
    assert abs(kinds[True, 2] / (kinds[True, 1] + kinds[True, 2]) - 0.6) < 0.05
    assert abs(kinds[False, 2] / (kinds[False, 1] + kinds[False, 2]) - NEAR_BETWEEN * 0.6) < 0.05
    assert abs(drawn.count(None) / len(drawn) - SUBJECTLESS) < 0.03


def test_without_pairs_single_names_alone_are_drawn() -> None:
    world, asked = load_world(), pool(0.0)
    assert not any(isinstance(asked.subject(world), Between) for _ in range(500))


def test_the_captions_of_a_pair_differ_in_the_name_alone() -> None:
    asked = pool(0.6)
    asked.truths = [(Between("fox", "wolf", 0.4), ["star", "sun", "rose"], True), ("fox", ["star"], True)]
    for _ in range(50):
        own, other, share = asked.caption(0)
        assert own.replace("fox", "wolf") == other and share == 0.4
        own, other, share = asked.caption(1)
        assert own == other and share == 0


def test_the_model_is_told_the_blend_of_both_captions() -> None:
    class Reader:
        """A text encoder whose states are the tokens themselves."""

        def __call__(self, tokens: torch.Tensor) -> "Reader":
            self.last_hidden_state = tokens[:, :, None].float()
            return self

    class Tokens:
        def __init__(self, texts: list[str], **_: object) -> None:
            self.input_ids = torch.tensor([[len(text), 7] for text in texts])

    told = conditions(Reader(), Tokens, [("ab", "ab", 0.0), ("a", "abcde", 0.25)])
    assert told.flatten(1).tolist() == [[2, 7], [2, 7]]
    assert conditions(Reader(), Tokens, [("abc", "abc", 0.0)]).flatten(1).tolist() == [[3, 7]]
