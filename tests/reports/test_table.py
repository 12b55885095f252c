"""The page says what the tests hold, and the table is as long as it should be."""

from __future__ import annotations

from tests.reports.table import PAGE, TABLE, page


def test_the_page_is_written_from_the_table() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.reports"


def test_there_are_rows_enough_and_none_twice() -> None:
    page()
    found = [(one.given, one.right) for rows in TABLE.values() for one in rows]
    assert len(found) >= 60 and len(set(found)) == len(found)
