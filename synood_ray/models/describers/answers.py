"""What a multimodal LLM says: read as people's models say it, with reasoning, fences, JSON and refusals."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from synood_ray.errors import printable

LONGEST = 8_000
"""Characters of an answer that are looked at, reasoning not counted: a hundred times what a prompt holds."""
_SHOWN = 120  # characters of an answer in a reason

_REASONING = r"(?:think|thinking|thought|thoughts|reasoning|reflection|analysis)"
_BEGIN = re.compile(rf"<{_REASONING}>|\[THINK\]|◁think▷|<\|channel\|>(?!final)|<\|begin_of_thought\|>", re.IGNORECASE)
_END = re.compile(
    rf"</{_REASONING}>|\[/THINK\]|◁/think▷|<\|channel\|>final<\|message\|>|<\|end_of_thought\|>", re.IGNORECASE
)
_MARKS = re.compile(r"</?[a-z_]{1,20}>|<\|[a-z_]{1,40}\|>", re.IGNORECASE)  # <answer>, <|im_end|>
_FENCE = re.compile(r"```(?:[\w+-]*[ \t]*\n)?(.*?)(?:```|\Z)", re.DOTALL)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?')  # in JSON; a key with its colon

_REFUSAL = re.compile(
    r"(?:(?:i[’']?m|i am) (?:very |so |really )?(?:sorry|afraid|unable|not able|not allowed)\b|sorry\b|i apologi[sz]e|"
    r"my apologies|i (?:can[’']?t|cannot|can not|won[’']t|will not|could not|couldn[’']t|must decline)\b|"
    r"unfortunately|as an? (?:ai|artificial|large language|language|visual)\b|"
    r"(?:this|the) (?:request|content|image) (?:violates|goes against|cannot be|can[’']t be)|"
    r"no (?:image|picture|photo) (?:is|was|has been) |there is no image|"
    r"es tut mir leid|tut mir leid|leider|ich kann (?:nicht|keine)|(?:je suis )?désolé|je ne peux|lo siento|no puedo|"
    r"mi dispiace|desculpe|não posso|извините|к сожалению|я не могу|抱歉|对不起|對不起|很抱歉|我无法|我無法|我不能|"
    r"申し訳|すみません|죄송)",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"(?:(?:there (?:is|are) )?(?:nothing|none|no (?:other |more )?(?:things?|objects?|items?))\b|n/?a\b|"
    r"i (?:do not|don[’']t) see\b)",
    re.IGNORECASE,
)

_YES = frozenset(
    ("yes", "yeah", "yep", "true", "correct", "ja", "oui", "si", "sí", "sì", "sim", "да", "はい", "是", "是的")
)
_NO = frozenset(
    ("no", "nope", "false", "incorrect", "nein", "non", "não", "нет", "いいえ", "不", "不是", "不是的", "没有", "否")
)
_NEGATED = re.compile(r"\b(?:does|do|did|is|are)(?:\s+not|n[’']t)\b")
_UNSURE = re.compile(
    r"(?:\bnot|n[’']t)\s+(?:\w+\s+)?(?:sure|certain|clear|know|tell|determine|say|possible)\b|\bcannot\b|\bno idea\b"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """text: what the model said; error: why there is nothing that can be used (text is "" then)."""

    text: str
    error: str = ""


def readable(answer: Answer) -> Answer:
    """The answer proper, without reasoning, fences, marks and control codes; JSON as its texts, separated by commas.

    What is empty or reasoning that was cut off has that as its error. Linear in the length of the answer.
    """
    if answer.error:
        return answer
    text = answer.text
    ends = [match.end() for match in _END.finditer(text)]
    text = text[ends[-1] :] if ends else text
    cut_off = _BEGIN.search(text)
    text = _MARKS.sub(" ", text[: cut_off.start() if cut_off else LONGEST][:LONGEST])
    text = "\n".join(printable(line) for line in text.splitlines()).strip()
    if not text:
        if cut_off or ends:
            return Answer("", "nothing but reasoning; a larger describer.max_new_tokens may help")
        return Answer("", "the answer is empty")
    fenced = _FENCE.search(text)
    text = fenced[1].strip() if fenced and fenced[1].strip() else text.replace("```", " ").strip()
    if text[:1] in ("{", "["):
        text = _texts(text)
    return Answer(text) if text else Answer("", f"the answer is empty: {quoted(answer.text)}")


def named(answer: Answer, question: str) -> Answer:
    """A `readable` answer that names things; the others have as their error what they are.

    question: one in Latin letters is to be answered in them.
    """
    found = readable(answer)
    begin = found.text.lstrip(" \"'*“”")
    for pattern, what in ((_REFUSAL, "refused"), (_NOTHING, "nothing is named")):
        if pattern.match(begin):
            return Answer("", f"{what}: {quoted(found.text)}")
    if _latin(found.text) < 0.5 <= _latin(question.replace("{subject}", "")):
        return Answer("", f"in another script than the question: {quoted(found.text)}")
    return found


def parse_yes_no(answer: Answer) -> bool | None:
    """What an answer says: its first word, else the only yes or no in it; None where that cannot be told."""
    sentence = " ".join(readable(answer).text.lower().split())
    if _REFUSAL.match(sentence) or _UNSURE.search(sentence):
        return None
    words = re.findall(r"[^\W_]+", sentence)
    if words and words[0] in _YES | _NO:
        return words[0] in _YES
    found = {word in _YES for word in words if word in _YES | _NO}
    if _NEGATED.search(sentence):
        found.add(False)
    return found.pop() if len(found) == 1 else None


def boxes_in(answer: Answer) -> list[tuple[float, float, float, float]]:
    """The boxes (x0, y0, x1, y1) of a grounding answer, as Qwen2.5-VL gives them: JSON, an object or a list of objects
    with four numbers as ``bbox_2d``. None of an answer that is not all of that: a sentence, JSON that is cut off, other
    keys, numbers in other orders.
    """
    if answer.error:
        return []
    text = answer.text[:LONGEST]
    fenced = _FENCE.search(text)
    try:
        found = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return []
    listed = found if isinstance(found, list) else [found]
    boxes: list[Any] = [one.get("bbox_2d") if isinstance(one, dict) else None for one in listed]
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes] if all(map(_is_box, boxes)) else []


def _is_box(value: Any) -> bool:
    """Whether it is four finite numbers, the second corner right of and below the first."""
    numbers = isinstance(value, list) and len(value) == 4 and all(type(one) in (int, float) for one in value)
    return numbers and all(map(math.isfinite, value)) and value[0] < value[2] and value[1] < value[3]


def quoted(text: str) -> str:
    """The beginning of a model's words, in one line, for a reason."""
    line = " ".join(printable(text[: 10 * _SHOWN]).split())
    return f"“{line[:_SHOWN]}{'…' if len(line) > _SHOWN or len(text) > 10 * _SHOWN else ''}”"


def _latin(text: str) -> float:
    """Share of Latin letters among the letters; 1 where there are none."""
    letters = [c for c in text if c.isalpha()]
    return sum(unicodedata.name(c, "").startswith("LATIN") for c in letters) / len(letters) if letters else 1.0


def _texts(text: str) -> str:
    """The texts in JSON, of objects in a list the first one each; of JSON that is cut off, all that are whole."""
    try:
        found = list(_walk(json.loads(text)))
    except (ValueError, RecursionError):
        found = [string for string, key in _STRING.findall(text) if not key]
        if not found:
            return text  # it only begins like JSON
    return ", ".join(string for string in found if string.strip())


def _walk(value: Any, in_list: bool = False) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bool):
        yield "yes" if value else "no"
    elif isinstance(value, list):
        for entry in value:
            yield from _walk(entry, in_list=True)
    elif isinstance(value, dict):
        for entry in value.values():
            found = list(_walk(entry))
            yield from found
            if in_list and found:  # {"name": "tree", "color": "green"}
                return
