"""What a command ends with: exit codes, and one line for whatever is not a defect."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TextIO, cast

from synood_ray.errors import Unavailable, UserError, printable
from synood_ray.extras import missing_extra
from synood_ray.locations import without_credentials

DONE, DEFECT, WRONG_INPUT, QUARANTINED, UNAVAILABLE, NOTHING_ACCEPTED, UNFINISHED = range(7)
INTERRUPTED = 130
"""Exit codes of every command. DEFECT: ours, with a traceback. UNFINISHED: a budget is spent, or units are left; the
same command goes on."""
CLOSING = 5.0
"""Seconds in which an interrupted command leaves its Ray cluster."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main_guard(main: Callable[[list[str]], int | None], argv: Sequence[str]) -> int:
    """Run ``main(arguments)`` and return the exit code.

    A `UserError` becomes one line and 2. Ctrl-C, SIGTERM (a spot machine that is taken away, a stopped Ray job) and
    SIGHUP (a terminal that is closed; not under nohup) become one line and 130, whatever they cut short; a store or a
    server that stays away, one line and 4. Other errors are defects and keep their traceback.
    """
    arguments = list(argv)
    with _Signals(arguments) as signals, _lasting_output():
        try:
            return ends_with(main(arguments) or DONE)
        except BaseException as error:
            if exit_code(error) != INTERRUPTED:
                return _code_of(error, arguments)
            signals.say()
            return INTERRUPTED


def ends_with(code: int) -> int:
    """The exit code of a command that has come to its end with this one: INTERRUPTED if a signal has come."""
    return INTERRUPTED if _signals is not None and _signals.came else code


def exit_code(error: BaseException) -> int:
    """The exit code that an error comes to which leaves a command. Libraries make errors of their own of an interrupt:
    once a signal has come, it is INTERRUPTED."""
    if ends_with(DONE) == INTERRUPTED:
        return INTERRUPTED
    if isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code == signal.SIGTERM):
        return INTERRUPTED  # Ray's own handler of SIGTERM leaves with the signal's number
    if isinstance(error, ModuleNotFoundError) and missing_extra(error) is not None:
        return WRONG_INPUT
    if isinstance(error, UserError):
        return WRONG_INPUT
    return UNAVAILABLE if isinstance(error, Unavailable) else DEFECT


def _code_of(error: BaseException, arguments: Sequence[str]) -> int:
    """The exit code of what a command raised, told in one line; defects are raised again."""
    if isinstance(error, UserError):
        cause = getattr(error, "cause", None)  # Ray wraps what a worker raised, traceback and all
        return _end(WRONG_INPUT, cause if isinstance(cause, UserError) else error)
    if isinstance(error, ModuleNotFoundError) and (wrong := missing_extra(error)) is not None:
        return _end(WRONG_INPUT, wrong)
    if isinstance(error, Unavailable):
        return _end(UNAVAILABLE, error, _resume("nothing that was committed is lost", arguments))
    raise error


class _Lasting:
    """Standard output whose reader may leave (`… | head`): the work goes on, and what is said to nobody is dropped."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return int(self.stream.write(text))
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


@contextlib.contextmanager
def _lasting_output() -> Iterator[None]:
    """What is printed meanwhile ends no command: not for want of a reader, nor of a letter (LANG=C has ASCII only)."""
    before = sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout = cast(TextIO, _Lasting(before))
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout = before


class _Signals:
    """While it is open, a first signal says that the command is interrupted, and interrupts it; a second one ends it.

    Said at once: what is given three seconds to leave, as a stopped Ray job, may not come to the end of cleaning up.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = arguments
        self.came = False
        self._said = False

    def __enter__(self) -> _Signals:
        global _signals
        _signals = self
        self._before = {number: signal.getsignal(number) for number in _ENDING}
        for number, handler in self._before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        global _signals
        _signals = None
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def say(self) -> None:
        """Tell the user, once. Past Python's buffers, in which a signal may have come between."""
        if not self._said:
            self._said = True
            line = _resume("\ninterrupted; nothing that was committed is lost", self.arguments)
            if self.came and sys.stderr is sys.__stderr__:
                os.write(2, f"{line}\n".encode(errors="replace"))
            else:
                print(line, file=sys.stderr)

    def _interrupt(self, number: int, frame: Any) -> NoReturn:
        if self.came:
            os._exit(INTERRUPTED)
        self.came = True
        self.say()
        raise KeyboardInterrupt


_signals: _Signals | None = None
"""Those of the command that runs."""


def leave(code: int) -> NoReturn:
    """End this process. An interrupted one ends without the clean-ups of libraries, which crash where they are half
    started; what it has started ends with it. So does one that is interrupted in these clean-ups: its work is done."""
    if code != INTERRUPTED:
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: os._exit(code))
        sys.exit(code)
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        closing = threading.Thread(target=_close_ray, daemon=True)
        closing.start()
        closing.join(CLOSING)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _close_ray() -> None:
    with contextlib.suppress(Exception):
        sys.modules["ray"].shutdown()


def _end(code: int, error: Exception, *more: str) -> int:
    print(
        without_credentials("error: " + printable(" ".join(str(error).splitlines()))), *more, sep="\n", file=sys.stderr
    )
    return code


def _resume(said: str, arguments: Sequence[str]) -> str:
    return f"{said}, the same command resumes: {without_credentials(shlex.join(['synood', *arguments]))}"
