"""A request, or one of its images, that gets no judgement: a status of HTTP and one sentence."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818
    """status: of HTTP, 4xx or 5xx. ``str()``: one sentence for who sent it. retry_after: seconds, where it helps."""

    def __init__(self, status: int, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after
