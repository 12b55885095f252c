"""What a multimodal LLM says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """text: what the model said; error: why there is nothing that can be used (text is "" then)."""

    text: str
    error: str = ""
