"""Reading of answers as models give them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synood_ray.config.models import DescriberSettings
from synood_ray.models.describers.answers import LONGEST, Answer, parse_yes_no, readable
from synood_ray.models.describers.base import Context, clean_answers


def words(text: str) -> int:
    return len(text.split())


def context(text: str, subject: str = "fox") -> Context:
    return clean_answers(DescriberSettings(), [Answer(text)], [subject], words)[0]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("tree, house", "tree, house"),
        ("<think>\nOkay, the user wants things. I see a tree.\n</think>\n\ntree, house", "tree, house"),
        ("Okay, I see a dog.</think>tree, house", "tree, house"),
        ("[THINK]a dog[/THINK]tree, house", "tree, house"),
        ("<THINKING>a dog</THINKING><answer>tree, house</answer>", "tree, house"),
        ("<|channel|>analysis<|message|>a dog<|end|><|channel|>final<|message|>tree, house<|return|>", "tree, house"),
        ("tree, house\n<think>was that all", "tree, house"),
        ('```json\n{"objects": ["tree", "house"]}\n```', "tree, house"),
        ('```\n["tree", "house"]\n```', "tree, house"),
        ("Here you are:\n```\ntree, house\n```\nAnything else?", "tree, house"),
        ("```tree, house```", "tree, house"),
        ('[{"name": "tree", "color": "green"}, {"name": "house"}]', "tree, house"),
        ('```json\n{"objects": ["tree", "house", "ho', "tree, house"),
        ('{"objects": ["tree", "house",]}', "tree, house"),
        (
            "In this image there is a tree next to a house, and the sun is shining.",
            "tree next to a house, sun is shining",
        ),
        ("The image shows a tree. There are also two houses.", "tree, two houses"),
        ("Sure! Here are a tree and a house", "tree and a house"),
        ("I can see: tree, house", "tree, house"),
        ("Objects: tree, house", "tree, house"),
        ("picture frame, the photo album, image", "picture frame, photo album, image"),
        ("\x1b[31mtree\x07, house\ud800", "tree, house"),
        ("[tree], house", "tree, house"),
        ("tree, Füchse, Café", "tree, Füchse, Café"),
    ],
)
def test_what_is_said_becomes_the_context(said: str, expected: str) -> None:
    found = context(said)
    assert (found.text, found.error) == (expected, "")


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("", "the answer is empty"),
        (" \n ", "the answer is empty"),
        ("<think>\nOkay, the user wants a list of things. There is a", "nothing but reasoning; a larger"),
        ("<think>a tree</think>\n", "nothing but reasoning; a larger"),
        ("I'm sorry, but I can't assist with that request.", "refused: “I'm sorry, but I can't assist"),
        ('"As an AI, I see no images."', 'refused: “"As an AI'),
        ("Es tut mir leid, das geht nicht.", "refused: “Es tut mir leid"),
        ("抱歉，我无法", "refused: “抱歉"),
        ("None.", "nothing is named: “None.”"),
        ("There are no other objects in this image.", "nothing is named: “There are no other"),
        ("I don't see anything else.", "nothing is named: “I don't see"),
        ("{}", "the answer is empty: “{}”"),
        ("```json\n[]\n```", "the answer is empty: “```json []"),
        ("树，房子，太阳", "in another script than the question: “树，房子，太阳”"),
        ("дерево, дом", "in another script"),
        ("a fox.", "nothing but the subject is named: “a fox.”"),
        ("...", "nothing but the subject is named: “...”"),
    ],
)
def test_what_nothing_can_be_painted_from_is_told(said: str, error: str) -> None:
    found = context(said)
    assert found.text == "" and found.error.startswith(error) and found.raw == said


def test_a_question_in_another_script_may_be_answered_in_it() -> None:
    settings = DescriberSettings(question="除了{subject}，图里有什么？")
    assert clean_answers(settings, [Answer("树，房子")], ["fox"], words)[0].text == "树, 房子"


def test_what_the_server_said_instead_is_the_reason() -> None:
    assert clean_answers(DescriberSettings(), [Answer("", "HTTP 400: too long")], ["fox"], words) == [
        Context("", "", "HTTP 400: too long")
    ]


@pytest.mark.parametrize(
    "kind", ["a fox, tree ", "\n", "<think>", "</think>x", "```", "[", '"a', "I see a fox. ", "no "]
)
def test_long_answers_are_cut_before_they_are_looked_at(kind: str) -> None:
    found = context(kind * (10**6 // len(kind)))
    assert len(found.raw) <= LONGEST and len(found.text) <= LONGEST and len(found.error) < 200
    assert parse_yes_no(Answer(kind * (10**6 // len(kind)))) in (None, False)
    thought = f"<think>{kind.replace('think>', '') * 10**5}</think>tree"
    assert context(thought).text == "tree"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *[("yes", True), (" Yes, it does.", True), ("NO.", False), ("no", False), ("**Yes**", True), ("Nein!", False)],
        *[("Ja.", True), ("Oui, bien sûr", True), ("Sí", True), ("是的。", True), ("不是", False), ("True", True)],
        *[("nobody", None), ("", None), ("I", None), ("maybe", None), ("No idea.", None), ("tree, house", None)],
        ("<think>Is it a fox? No, yes.</think>\n\nYes.", True),
        ("<think>Is it a fox? No", None),
        ('```json\n{"answer": "yes"}\n```', True),
        ('{"answer": false}', False),
        ("The image does show it, yes.", True),
        ("The answer is no.", False),
        ("The image does not show a fox.", False),
        ("It isn't a fox.", False),
        ("I'm not sure.", None),
        ("I do not know.", None),
        ("I cannot tell whether it is a fox.", None),
        ("I'm sorry, I can't help with that. No.", None),
        ("It may be yes or no.", None),
    ],
)
def test_yes_and_no(answer: str, expected: bool | None) -> None:
    assert parse_yes_no(Answer(answer)) is expected


parts = [
    "<think>",
    "</think>",
    "```",
    "```json\n",
    "{",
    "}",
    "[",
    "]",
    '"tree"',
    ": ",
    ", ",
    "yes",
    "I'm sorry",
    "a fox",
]


@given(st.lists(st.sampled_from(parts) | st.text(st.characters())).map("".join))
def test_nothing_that_is_said_is_an_error_of_ours(said: str) -> None:
    found = context(said)
    assert bool(found.text) != bool(found.error)
    assert "\n" not in found.text and "\n" not in found.error
    (found.text + found.error + found.raw).encode()
    assert parse_yes_no(Answer(said)) in (True, False, None)
    once = readable(Answer(said))
    assert bool(once.text) != bool(once.error)
