"""Which rows of a run: ``reason = 'rounds' and class in ('owl', 'duck')``, as an expression of pyarrow.

A small part of SQL's WHERE, read by hand: nothing of the text is ever evaluated.

    either   = both {"or" both}
    both     = one {"and" one}
    one      = "not" one | "(" either ")" | column | column compare value | column ["not"] in "(" value {"," value} ")"
             | column ["not"] "like" string
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synood_ray.errors import UserError
from synood_ray.storage.parts import SAMPLE_COLUMNS, sample_schema

Value = str | int | float | bool

_SHORT = {"reason": "reject_reason", "class": "source_name", "label": "source_label", "source": "source_key"}
_TYPES = {field.name: field.type for field in sample_schema([])}
_KINDS: Mapping[str, Callable[[pa.DataType], bool]] = {
    "text": pa.types.is_string,
    "a number": lambda kind: pa.types.is_integer(kind) or pa.types.is_floating(kind),
    "true or false": pa.types.is_boolean,
}
_LONG = set(_SHORT.values())
_OWN = [name for name in SAMPLE_COLUMNS if name not in _LONG and any(has(_TYPES[name]) for has in _KINDS.values())]

COLUMNS: Mapping[str, str] = {**_SHORT, **{name: name for name in [*_OWN, *sorted(_LONG)]}}
"""What a predicate may name -> the row's column. The first are shorter names for some of the last."""

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_SAME = {"==": "=", "<>": "!="}
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))"""
    r"""|(?P<word>[A-Za-z_]\w*)|(?P<sign><>|[<>=!]=|[<>=(),]))"""
)
_WORDS = {"and", "or", "not", "in", "like", "true", "false"}
_DEEP = 40  # brackets and "not" inside one another
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Where:
    """A predicate over rows. text: the same for all that are written alike but for case, spaces and quotes.

    columns: of the row, that it looks at.
    """

    text: str
    columns: tuple[str, ...]
    expression: pc.Expression

    def of(self, table: pa.Table) -> pa.Table:
        """The table's rows that it is true of. A margin that is not a number (of a failed sample) compares false."""
        return table.filter(self.expression)


def parse_where(text: str, setting: str) -> Where:
    """A predicate. setting: what a message names. Raises UserError for whatever is wrong with it."""
    return _Reader(text, setting).whole()


class _Reader:
    """Reads one predicate from left to right; every method returns a part's expression and its text."""

    def __init__(self, text: str, setting: str) -> None:
        self.setting, self.columns = setting, dict[str, None]()
        self.tokens: list[tuple[str, str]] = []
        self.at, self.depth = 0, 0
        place, text = 0, text.rstrip()
        while place < len(text):
            found = _TOKEN.match(text, place)
            if found is None:
                raise self._wrong(f"what is {text[place:].strip()[:20]!r}?")
            self.tokens.append((found.lastgroup or "", found[found.lastgroup or ""]))
            place = found.end()

    def whole(self) -> Where:
        if not self.tokens:
            raise self._wrong("it is empty")
        expression, text = self._either()
        if self.at < len(self.tokens):
            raise self._wrong(f"what is {self._next()!r} doing after {text!r}?")
        return Where(text, tuple(self.columns), expression)

    def _either(self) -> tuple[pc.Expression, str]:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return _joined(parts, " or ", lambda a, b: a | b)

    def _both(self) -> tuple[pc.Expression, str]:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return _joined(parts, " and ", lambda a, b: a & b)

    def _one(self) -> tuple[pc.Expression, str]:
        self.depth += 1
        if self.depth > _DEEP:
            raise self._wrong(f"more than {_DEEP} brackets inside one another")
        try:
            if self._take("not"):
                expression, text = self._one()
                return ~expression, f"not {text if text.startswith('(') else f'({text})'}"
            if self._take("("):
                expression, text = self._either()
                self._need(")")
                return expression, f"({text})"
            return self._comparison()
        finally:
            self.depth -= 1

    def _comparison(self) -> tuple[pc.Expression, str]:
        name, kind, column = self._column()
        negated = self._take("not")
        if negated or self._peek() in ("in", "like"):
            expression, text = self._listed(name, kind, column) if self._take("in") else self._like(name, kind, column)
            return (~expression, f"not ({text})") if negated else (expression, text)
        sign = _SAME.get(self._peek(), self._peek())
        if sign not in _COMPARE:
            if kind == "true or false":
                return column, name
            raise self._wrong(
                f"after {name!r} comes =, !=, <, <=, >, >=, in or like, and then what it is compared with"
            )
        self.at += 1
        if kind == "true or false" and sign not in ("=", "!="):
            raise self._wrong(f"{name} is true or false, and compares with = only")
        value = self._value(name, kind)
        return _COMPARE[sign](column, pa.scalar(value)), f"{name} {sign} {_written(value)}"

    def _listed(self, name: str, kind: str, column: pc.Expression) -> tuple[pc.Expression, str]:
        self._need("(")
        values = [self._value(name, kind)]
        while self._take(","):
            values.append(self._value(name, kind))
        self._need(")")
        if any(isinstance(value, float) for value in values):
            column, values = column.cast("float64"), [float(value) for value in values]
        return column.isin(values), f"{name} in ({', '.join(map(_written, values))})"

    def _like(self, name: str, kind: str, column: pc.Expression) -> tuple[pc.Expression, str]:
        self._need("like")
        if kind != "text":
            raise self._wrong(f"{name} is {kind}; only text is like something")
        value = self._value(name, kind)
        return pc.match_like(column, str(value)), f"{name} like {_written(value)}"

    def _column(self) -> tuple[str, str, pc.Expression]:
        kind, word = self.tokens[self.at] if self.at < len(self.tokens) else ("", "")
        if kind != "word" or word.lower() in _WORDS:
            raise self._wrong(f"a column is missing before {word!r}" if word else "it ends where a column should come")
        self.at += 1
        column = COLUMNS.get(word.lower())
        if column is None:
            raise UserError(f"{self.setting}: no column {word!r}; there are {', '.join(COLUMNS)}")
        self.columns[column] = None
        shown = next(short for short, long in COLUMNS.items() if long == column)
        return shown, next(kind for kind, has in _KINDS.items() if has(_TYPES[column])), pc.field(column)

    def _value(self, name: str, wanted: str) -> Value:
        if self.at == len(self.tokens):
            raise self._wrong(f"it ends where the value for {name!r} should come")
        kind, written = self.tokens[self.at]
        self.at += 1
        value: Value
        if kind == "text":
            found, value = "text", written[1:-1].replace(written[0] * 2, written[0])
        elif kind == "number":
            found = "a number"
            value = int(written) if re.fullmatch(r"[+-]?\d+", written) else float(written)
            if abs(value) > _LARGEST:
                raise self._wrong(f"{written} is too large a number")
        elif written.lower() in ("true", "false"):
            found, value = "true or false", written.lower() == "true"
        else:
            quotes = f"; text stands in quotes: '{written}'" if kind == "word" else ""
            raise self._wrong(f"{written!r} is no value for {name!r}{quotes}")
        if found != wanted:
            raise UserError(f"{self.setting}: {name} is {wanted}, and does not compare with {written}")
        return value

    def _peek(self) -> str:
        kind, word = self.tokens[self.at] if self.at < len(self.tokens) else ("", "")
        return "" if kind == "text" else word.lower()

    def _next(self) -> str:
        return self.tokens[self.at][1]

    def _take(self, word: str) -> bool:
        found = self._peek() == word
        self.at += found
        return found

    def _need(self, word: str) -> None:
        if not self._take(word):
            there = f"not {self._next()!r}" if self.at < len(self.tokens) else "and nothing does"
            raise self._wrong(f"{word!r} should come here, {there}")

    def _wrong(self, why: str) -> UserError:
        return UserError(f"{self.setting}: {why} (such as: reason = 'rounds' and class in ('owl', 'duck'))")


def _joined(
    parts: list[tuple[pc.Expression, str]], word: str, join: Callable[[Any, Any], Any]
) -> tuple[pc.Expression, str]:
    expression = parts[0][0]
    for other, _ in parts[1:]:
        expression = join(expression, other)
    return expression, word.join(text for _, text in parts)


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "'{}'".format(value.replace("'", "''")) if isinstance(value, str) else repr(value)
