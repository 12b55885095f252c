"""What a command ends with: exit codes, and one line for whatever is not a defect."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from synood_ray.errors import Unavailable, UserError, printable
from synood_ray.extras import missing_extra
from synood_ray.locations import without_credentials

DONE, WRONG_INPUT, QUARANTINED, UNAVAILABLE, NOTHING_ACCEPTED, INTERRUPTED = 0, 2, 3, 4, 5, 130
"""Exit codes of every command."""


def main_guard(main: Callable[[list[str]], int | None], argv: Sequence[str]) -> int:
    """Run ``main(arguments)`` and return the exit code.

    A `UserError` becomes one line and 2. Ctrl-C, SIGTERM (a spot machine that is taken away, a stopped Ray job) and
    SIGHUP (a terminal that is closed; not under nohup) become one line and 130; a store or a server that stays
    away, one line and 4. Other errors are defects and keep their traceback.
    """
    arguments = list(argv)
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        return main(arguments) or DONE
    except UserError as error:
        cause = getattr(error, "cause", None)  # Ray wraps what a worker raised, traceback and all
        return _end(WRONG_INPUT, cause if isinstance(cause, UserError) else error)
    except ModuleNotFoundError as error:
        wrong = missing_extra(error)
        if wrong is None:
            raise
        return _end(WRONG_INPUT, wrong)
    except Unavailable as error:
        return _end(UNAVAILABLE, error, _resume("nothing that was committed is lost", arguments))
    except KeyboardInterrupt:
        return _say_interrupted(arguments)
    except BrokenPipeError:  # `… --help | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except SystemExit as error:
        if error.code == signal.SIGTERM:  # how Ray's own handler leaves
            return _say_interrupted(arguments)
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(signum: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _end(code: int, error: Exception, *more: str) -> int:
    print(
        without_credentials("error: " + printable(" ".join(str(error).splitlines()))), *more, sep="\n", file=sys.stderr
    )
    return code


def _say_interrupted(arguments: Sequence[str]) -> int:
    print(_resume("\ninterrupted; nothing that was committed is lost", arguments), file=sys.stderr)
    return INTERRUPTED


def _resume(said: str, arguments: Sequence[str]) -> str:
    return f"{said}, the same command resumes: {without_credentials(shlex.join(['synood', *arguments]))}"
