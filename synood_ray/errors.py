"""Errors that are not ours: the user's to fix, or of a service that is away. Told apart from defects, in one line."""

import re

_CODES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class UserError(Exception):
    """A wrong setting, file or folder. The message is one line: what is wrong and what to do.

    Commands print it without a traceback and exit with code 2. Everything else that is raised is a defect
    of ours (or of the machine) and keeps its traceback.
    """


class Unavailable(Exception):  # noqa: N818
    """A service that the run depends on (a store, a model server) did not answer within its budget of time.

    Worth another try later; no fault of the work itself. Jobs print it in one line and exit with code 4, resumable.
    """


def first_line(error: BaseException) -> str:
    """What a library's exception says, as one line to quote."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def counted(count: int, one: str, more: str = "") -> str:
    """ "1 unit", "2,000 units". more: the word for several, where it is not one with an s."""
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def printable(text: str) -> str:
    """The text without what a terminal or a file would take for a command, a line's end too: a blank in its place."""
    return "".join(c if c.isprintable() else " " for c in _CODES.sub(" ", text))
