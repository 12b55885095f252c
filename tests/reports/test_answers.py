"""Answers of multimodal models."""

from __future__ import annotations

from synood_ray.config.models import DescriberSettings
from synood_ray.models.describers.answers import Answer, parse_yes_no
from synood_ray.models.describers.base import clean_answers
from tests.reports.table import rows


@rows(
    "said, text, error",
    (
        "trial",
        "`<think>…</think>tree, house`",
        "the reasoning is not in the prompt",
        "<think>a dog?</think>tree, house",
        "tree, house",
        "",
    ),
    (
        "trial",
        "reasoning that the token limit cut off",
        "failed; the cure is max_new_tokens",
        "<think>Let me see, a",
        "",
        "max_new_tokens",
    ),
    ("trial", "a JSON list in a code fence", "its strings", '```json\n["tree", "house"]\n```', "tree, house", ""),
    (
        "trial",
        "a JSON list cut off in a string",
        "the strings that are whole",
        '["tree", "house", "ho',
        "tree, house",
        "",
    ),
    (
        "trial",
        "a refusal, in any of ten languages",
        "failed with its words",
        "I'm sorry, I can't assist with that.",
        "",
        "refused",
    ),
    (
        "trial",
        "an answer in Chinese to an English question",
        "failed with its words",
        "树木和房子",
        "",
        "another script",
    ),
    ("trial", "nothing but the subject", "failed", "a fox, the foxes", "", "nothing but the subject"),
    ("trial", "an empty answer", "failed, not an empty prompt", " \n", "", "empty"),
    ("trial", "terminal codes", "not shown, not in the prompt", "\x1b[31mtree\x07, house", "tree, house", ""),
)
def test_an_answer_becomes_a_context_or_a_reason(said: str, text: str, error: str) -> None:
    (found,) = clean_answers(DescriberSettings(), [Answer(said)], ["fox"], lambda words: len(words.split()))
    assert found.text == text and error in found.error and bool(found.error) == bool(error)


@rows(
    "said, told",
    ("trial", 'the check answers `{"answer": false}`', "no", '{"answer": false}', False),
    ("trial", "the check answers “Ja.”", "yes", "Ja.", True),
    (
        "trial",
        "the check answers “I cannot tell.”",
        "counted as untold; most of them: the job ends",
        "I cannot tell.",
        None,
    ),
    ("trial", "the check answers “The image does not show a fox.”", "no", "The image does not show a fox.", False),
)
def test_a_check_is_understood(said: str, told: bool | None) -> None:
    assert parse_yes_no(Answer(said)) is told
