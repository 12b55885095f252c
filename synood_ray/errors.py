"""Errors that are not ours: the user's to fix, or of a service that is away. Told apart from defects."""


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
