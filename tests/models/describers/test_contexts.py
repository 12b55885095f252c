"""Cleaning of a multimodal LLM's answer."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synood_ray.models.describers.contexts import clean_context, count_clip_tokens, cut_at_word


def words(text: str) -> int:
    return len(text.split())


def clean(raw: str, subject: str = "fox", limit: int = 60) -> str:
    return clean_context(raw, subject, limit_tokens=limit, count_tokens=words)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("tree, bell", "tree, bell"),
        ("Tree, a bell, the tree, TREE.", "Tree, bell"),
        ("1. tree\n2. old house\n3) river", "tree, old house, river"),
        ("- tree\n* bell\n• sky", "tree, bell, sky"),
        ("Here are the things in the image:\n\n- tree\n- bell", "tree, bell"),
        ('"tree", (bell); and a cloud.', "tree, bell, cloud"),
        ("a red-roofed house, well-kept lawn", "red-roofed house, well-kept lawn"),
        ("", ""),
        (" , ,\n;. ", ""),
        ("the, a, and", ""),
    ],
)
def test_splits_and_tidies(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@pytest.mark.parametrize(
    ("subject", "raw", "expected"),
    [
        ("fox", "fox, tree", "tree"),
        ("fox", "two Foxes, tree", "two, tree"),
        ("fox", "foxglove, a fox's den, tree", "foxglove, den, tree"),
        ("fox", "a fox in the snow", "snow"),
        ("red apple", "red apples, red car, apple, apple tree", "red car, tree"),
        ("red_apple", "a red apple on a table", "table"),
        ("cherries", "cherry, cherry blossom", "blossom"),
        ("wolf", "wolves, moon", "moon"),
        ("mouse", "Mice, cheese", "cheese"),
        ("butterfly", "butterflies, flower", "flower"),
        ("glass", "glasses, glass, window", "window"),
        ("C++", "C++, code", "code"),
        ("", "tree, bell", "tree, bell"),
    ],
)
def test_takes_the_subject_out(subject: str, raw: str, expected: str) -> None:
    assert clean(raw, subject) == expected


def test_cuts_at_a_word() -> None:
    assert clean("big tree, bell, cloud", limit=3) == "big tree, bell"
    assert clean("big tree, bell", limit=2) == "big tree"
    assert clean("tree", limit=0) == ""


def test_counts_tokens_not_characters() -> None:
    count = count_clip_tokens
    text = ", ".join(["antidisestablishmentarianism"] * 10)
    short = clean_context(text + ", tree", "fox", limit_tokens=5, count_tokens=count)
    assert count(short) <= 5
    assert len(clean_context("tree, sun, bell", "fox", limit_tokens=5, count_tokens=count)) == len("tree, sun, bell")


some_text = st.text(st.sampled_from("fox Foxes tree,\n-1.;*:()'’éß ")) | st.text()
items = st.sampled_from(["fox", "Foxes", "tree", "a bell", "red fox den", "1.", "-", "the"]) | some_text
answers = st.lists(items).map(", ".join)
subjects = st.sampled_from(["fox", "red fox", "den", "tree", "a", "x.y", "(", "é"]) | st.text(max_size=8)
limits = st.integers(0, 12)


@given(answers, subjects, limits)
def test_never_names_the_subject_nor_repeats_nor_exceeds(raw: str, subject: str, limit: int) -> None:
    text = clean(raw, subject, limit)
    assert words(text) <= limit
    items = text.split(", ") if text else []
    assert all(item == item.strip() and item for item in items)
    assert "\n" not in text and ",," not in text
    last = re.sub(r"[_\s]+", " ", subject).strip().split(" ")[-1]
    if last:
        assert not re.search(rf"(?<!\w){re.escape(last)}(?!\w)", text, re.IGNORECASE)
    whole = clean(raw, subject, 10**6).split(", ")
    assert len({item.casefold() for item in whole}) == len(whole)


@given(answers, subjects)
def test_cleaning_a_clean_text_changes_nothing(raw: str, subject: str) -> None:
    once = clean(raw, subject, 10**6)
    assert clean(once, subject, 10**6) == once


@given(answers, limits)
def test_keeps_order_and_invents_no_words(raw: str, limit: int) -> None:
    kept = re.findall(r"[A-Za-z]+", clean(raw, "fox", limit))
    source = iter(re.findall(r"[A-Za-z]+", raw))
    assert all(word in source for word in kept)  # a subsequence of the answer's words


@given(st.lists(st.text("abc", min_size=1), min_size=1).map(" ".join), st.integers(0, 20))
def test_cut_is_the_longest_that_fits(text: str, limit: int) -> None:
    cut = cut_at_word(text, limit, len)
    assert text.startswith(cut) and len(cut) <= limit
    rest = text[len(cut) :].split()
    if rest:
        assert len(f"{cut} {rest[0]}".strip()) > limit
