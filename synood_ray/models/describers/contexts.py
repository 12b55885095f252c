"""Turns a multimodal LLM's answer into clean context words: "tree, red car", never the subject itself."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from synood_ray.data.names import names_in, qualifiers

TokenCounter = Callable[[str], int]

# Commas, semicolons, line ends, ends of sentences;
# list marks ("- ", "* ", "• ", "1. ", "2) ") at the start of a line or after a space
_SEPARATOR = re.compile(r"[,;\r\n，、；。]|(?<=[a-z]{3})[.!?](?=\s)|[•·]|(?:^|(?<=\s))(?:[-*–—]|\d{1,2}[.)])(?=\s)")
_HEADING = re.compile(r"^[^\n]*:\s*$", re.MULTILINE)  # "Here are the things in the image:"
_EDGE = " \t\"'`“”‘’.:!?()[]{}<>*_#|-–—"
_ARTICLES = re.compile(r"^(?:(?:and|or|a|an|the|some|several|also)\s+)+", re.IGNORECASE)
_LEAD = re.compile(  # how sentences begin that name things
    r"^(?:(?:sure|certainly|of course|okay|ok)\b[!.:]?|"
    r"(?:in|on) (?:this|the) (?:image|picture|photo|photograph|scene)\b|"
    r"(?:this|the) (?:image|picture|photo|photograph|scene) (?:also )?"
    r"(?:shows|contains|depicts|features|includes|displays|has)\b|"
    r"there(?:[’']s| is| are)\b|(?:i|we|you|one) (?:can )?(?:also )?see\b|here (?:is|are)\b|"
    r"(?:answer|objects|things|items|other things|background|list):)\s*",
    re.IGNORECASE,
)
_FILLERS = frozenset(
    "a an and are at behind beside by for from in is it its near next of on or some the to under with".split()  # noqa: SIM905
)


def clean_context(raw: str, subject: str, *, limit_tokens: int, count_tokens: TokenCounter) -> str:
    """The context words of an answer, separated by ", ".

    raw: the model's answer, any text (commas, lines, bullets, numbering). subject: the class name. Every name inside it
    ("bat, flittermouse") is taken out as whole words, in singular and plural, whatever their case (the whole name and
    its last word: "red apple" and "apple"), and what stands in brackets, as a whole ("kite (bird of prey)"). Items that
    are nothing but fillers afterwards go, repeated items go, the rest keeps its order.
    The result has at most limit_tokens tokens by count_tokens and is cut between words; it may be empty.
    """
    text = _HEADING.sub("", unicodedata.normalize("NFC", raw))
    items: dict[str, str] = {}
    for part in _SEPARATOR.split(text):
        item = _tidy(part)
        without = _tidy(_without_subject(item, subject))
        if without != item:
            without = _trim_fillers(without)
        if without and not _only_fillers(without):
            items.setdefault(without.casefold(), without)
    return cut_at_word(", ".join(items.values()), limit_tokens, count_tokens)


def cut_at_word(text: str, limit_tokens: int, count_tokens: TokenCounter) -> str:
    """The longest run of leading words of `text` that has at most limit_tokens tokens, without a comma at its end."""
    if count_tokens(text) <= limit_tokens:
        return text
    words = text.split(" ")
    low, high = 0, len(words) - 1  # low words fit, more than high do not; a longer text never has fewer tokens
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(" ".join(words[:middle])) <= limit_tokens:
            low = middle
        else:
            high = middle - 1
    return " ".join(words[:low]).rstrip(", ")


def count_clip_tokens(text: str) -> int:
    """Tokens of the text as CLIP's text encoders count them (Stable Diffusion 1, 2 and XL), without the end marks."""
    return len(_clip_tokenizer().encode(text))


@lru_cache(maxsize=1)
def _clip_tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()  # open_clip ships the vocabulary: nothing is downloaded


def _tidy(item: str) -> str:
    item = " ".join(item.split())
    while True:
        shorter = _ARTICLES.sub("", _LEAD.sub("", item.strip(_EDGE)))
        if shorter == item:
            return item
        item = shorter


def _without_subject(item: str, subject: str) -> str:
    pattern = _subject_pattern(subject)
    if pattern is None:
        return item
    while True:  # taking words out can bring subject words together
        shorter = " ".join(pattern.sub(" ", item).split())
        if shorter == item:
            return item
        item = shorter


@lru_cache(maxsize=4096)
def _subject_pattern(subject: str) -> re.Pattern[str] | None:
    subject = unicodedata.normalize("NFC", subject)
    phrases = [_phrase(name, alone=True) for name in names_in(subject)]
    phrases += [_phrase(qualifier, alone=False) for qualifier in qualifiers(subject)]
    found = sorted({phrase for phrase in phrases if phrase}, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(found)})(?:'s|’s)?(?!\w)", re.IGNORECASE) if found else None


def _phrase(name: str, *, alone: bool) -> str:
    """Pattern of a name, its words joined in whichever way; alone: its last word by itself too."""
    words = re.sub(r"[_\s-]+|(?<=[a-z])(?=[A-Z][a-z])", " ", name).strip().split(" ")
    if words == [""]:
        return ""
    last = "|".join(re.escape(form) for form in _forms(words[-1]))
    lead = r"[\s_-]*".join(re.escape(word) for word in words[:-1])
    prefix = rf"(?:{lead}[\s_-]*){'?' if alone else ''}" if lead else ""
    return f"{prefix}(?:{last})"


def _forms(word: str) -> list[str]:
    """The word with its likely singular and plural forms, longest first."""
    forms = {word}
    low = word.lower()
    if low.endswith("ies") and len(low) > 4:
        forms.add(word[:-3] + "y")
    elif low.endswith("ves") and len(low) > 4:
        forms |= {word[:-3] + "f", word[:-3] + "fe", word[:-1]}
    elif low.endswith("es") and len(low) > 3:
        forms |= {word[:-1], word[:-2]}
    elif low.endswith("s") and not low.endswith("ss") and len(low) > 3:
        forms.add(word[:-1])
    if low.endswith("y") and len(low) > 2 and low[-2] not in "aeiou":
        forms.add(word[:-1] + "ies")
    elif low.endswith("fe"):
        forms.add(word[:-2] + "ves")
    elif low.endswith("f"):
        forms.add(word[:-1] + "ves")
    elif low.endswith("man"):
        forms.add(word[:-2] + "en")
    elif low.endswith("mouse"):
        forms.add(word[:-5] + "mice")
    forms |= {word + "s", word + "es"}
    return sorted(forms, key=len, reverse=True)


def _trim_fillers(item: str) -> str:
    words = item.split(" ")
    while words and words[0].lower() in _FILLERS:
        words.pop(0)
    while words and words[-1].lower() in _FILLERS:
        words.pop()
    return _tidy(" ".join(words))


def _only_fillers(item: str) -> bool:
    return all(word.strip(_EDGE).lower() in _FILLERS for word in item.split(" "))
