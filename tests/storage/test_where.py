"""Predicates over rows: what they choose, and what is said of wrong ones."""

from __future__ import annotations

import pytest

from synood_ray.errors import UserError
from synood_ray.farm.plan import Plan
from synood_ray.storage.parts import samples_table
from synood_ray.storage.where import COLUMNS, parse_where
from tests.storage.builders import CLASSES, fail, make_row, make_sources

TASKS = Plan(make_sources(6), unit_size=6).unit(0)
ROWS = [
    make_row(TASKS[0]),
    make_row(TASKS[1], accepted=False, reject_reason="rounds", margin=2.5, rounds=6),
    make_row(TASKS[2], accepted=False, reject_reason="clip", margin=-0.5, seed=2**62 + 1),
    fail(make_row(TASKS[3], partner="o'hara")),
    make_row(TASKS[4], rounds=6, rerun=1),
    make_row(TASKS[5], margin=float("nan")),
]
TABLE = samples_table(ROWS, CLASSES)

CHOICES: dict[str, set[int]] = {
    "reason = 'rounds'": {1},
    'reason in ("rounds", "clip")': {1, 2},
    "reason not in ('rounds', 'clip') and not accepted": {3},
    "reject_reason like 'error%'": {3},
    "class = 'toucan'": {2, 5},
    "class = 'crane' AND Rounds >= 6": {1, 4},
    "accepted": {0, 4, 5},
    "accepted = false": {1, 2, 3},
    "accepted in (true) and rounds in (2, 6.5)": {0, 5},
    "margin > 1 or margin<-.25e0": {1, 2, 3},
    "not (reason = 'rounds' or reason = 'clip' or failed)": {0, 4, 5},
    "failed or reason = 'clip' and rounds = 2": {2, 3},
    "(failed or reason = 'clip') and rounds = 2": {2},
    "partner = 'o''hara'": {3},
    "seed = 4611686018427387905": {2},
    "seed in (4611686018427387905, 7)": {2},
    "key == '00000003'": {3},
    "rerun <> 0": {4},
}


@pytest.mark.parametrize("text", CHOICES)
def test_what_is_chosen(text: str) -> None:
    where = parse_where(text, "--rerun")
    chosen = where.of(TABLE)
    assert {int(key) for key in chosen.column("key").to_pylist()} == CHOICES[text]
    again = parse_where(where.text, "--rerun")
    assert again.text == where.text and again.of(TABLE).column("key") == chosen.column("key")
    assert where.of(TABLE.select(where.columns)).num_rows == len(CHOICES[text])


def test_what_is_written_alike_has_one_text() -> None:
    told = {
        parse_where(text, "").text
        for text in ("reason='rounds' and (failed or accepted)", 'REJECT_REASON == "rounds"  AND (Failed OR accepted)')
    }
    assert told == {"reason = 'rounds' and (failed or accepted)"}


WRONG = {
    "": "it is empty",
    "reson = 'x'": "no column 'reson'; there are reason, class, label, source, key, ",
    "names = 'x'": "no column 'names'",
    "reason = rounds": "'rounds' is no value for 'reason'; text stands in quotes: 'rounds'",
    "rounds = 'a'": "rounds is a number, and does not compare with 'a'",
    "reason like 5": "reason is text, and does not compare with 5",
    "rounds like 'a'": "rounds is a number; only text is like something",
    "accepted > true": "accepted is true or false, and compares with = only",
    "accepted = 1": "accepted is true or false, and does not compare with 1",
    "reason": "after 'reason' comes =",
    "(reason = 'x'": "')' should come here, and nothing does",
    "rounds in (1 2)": "')' should come here, not '2'",
    "rounds in ()": "')' is no value for 'rounds' ",
    "reason = 'x' reason": "what is 'reason' doing after \"reason = 'x'\"",
    "reason =": "it ends where the value for 'reason' should come",
    "accepted and": "it ends where a column should come",
    "5 < rounds": "a column is missing before '5'",
    "rounds = 99999999999999999999": "99999999999999999999 is too large a number",
    "rounds = 1e999": "1e999 is too large a number",
    "reason = 'x": 'what is "\'x"',
    "__import__('os')": "no column '__import__'",
    "reason = 'x'; drop table": "what is '; drop table'",
    "(" * 10_000: "more than 40 brackets inside one another",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_in_one_line(text: str) -> None:
    with pytest.raises(UserError) as told:
        parse_where(text, "--rerun")
    line = str(told.value)
    assert line.startswith(f"--rerun: {WRONG[text]}") and "\n" not in line


def test_every_plain_column_can_be_named() -> None:
    nested = {"image", "names", "score_trace", "margin_trace", "companion", "feature", "models", "milliseconds"}
    assert set(COLUMNS.values()) == {field.name for field in TABLE.schema} - nested
