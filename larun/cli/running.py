"""How a command ends: one line for an error, a code for the shell, warnings told once.

==== ===================================================================================
code meaning
==== ===================================================================================
0    all is well
1    some frames or masters failed, the rest is done; a check or an audit found a fault
2    wrong usage or option
3    an input cannot be read, or an output cannot be written
4    another error
130  interrupted with Ctrl-C; what was finished is intact
141  the reader of the output went away (``larun ls … | head``)
==== ===================================================================================
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

import typer

from larun.algorithms.jit import announcing
from larun.errors import FileError, LarunError, LarunWarning, OptionError, RawNotFound

__all__ = ["BROKEN_PIPE", "CANNOT_READ", "FAILED", "INTERRUPTED", "OK", "OTHER", "USAGE", "command", "say"]

_P = ParamSpec("_P")

OK, FAILED, USAGE, CANNOT_READ, OTHER, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 4, 130, 141


def command(function: Callable[_P, int]) -> Callable[_P, None]:
    """Make a function that returns an exit code a command: errors become a line and a code, warnings lines."""

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> None:
        with _ended():
            code = function(*args, **kwargs)
            sys.stdout.flush()
            if code != OK:
                raise typer.Exit(code)

    return wrapper


def say(kind: str, message: str) -> None:
    """One line on standard error: ``error: …``, ``warning: …`` or ``note: …``."""
    from rich.text import Text

    from larun.provenance.show import printable
    from larun.report.terminal import console

    style = {"error": "bold red", "warning": "yellow", "note": "bold"}[kind]
    screen = console(stderr=True)
    with screen.capture() as line:
        text = Text.assemble((f"{kind}: ", style), printable(" ".join(message.split())))
        screen.print(text, soft_wrap=True)
    # Through sys.stderr, which a progress bar redirects: the line appears above the bar.
    sys.stderr.write(line.get())


@contextlib.contextmanager
def _ended() -> Iterator[None]:
    """Turn whatever happens inside into the exit code it stands for."""
    told: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = str(message) if issubclass(category, LarunWarning) else f"{category.__name__}: {message}"
        if text not in told:
            told.add(text)
            say("warning", text)

    try:
        with warnings.catch_warnings(), announcing(lambda text: say("note", text)):
            warnings.simplefilter("always", LarunWarning)
            warnings.showwarning = show
            yield
    except typer.Exit:
        raise
    except BrokenPipeError:
        _forget_output()
        raise typer.Exit(BROKEN_PIPE) from None
    except KeyboardInterrupt:
        say("error", "interrupted: what was finished is intact, the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if os.environ.get("LARUN_DEBUG"):
            traceback.print_exc()
        for problem in getattr(error, "problems", None) or (_readable(error),):
            say("error", problem)
        raise typer.Exit(_code(error)) from None


def _readable(error: Exception) -> str:
    if isinstance(error, LarunError):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return "out of memory: try a smaller --max-memory or fewer --jobs"
    return f"unexpected {type(error).__name__}: {error} (LARUN_DEBUG=1 shows where)"


def _code(error: Exception) -> int:
    if isinstance(error, OptionError):
        return USAGE
    return CANNOT_READ if isinstance(error, FileError | OSError | RawNotFound) else OTHER


def _forget_output() -> None:
    """Nobody reads any more: let the interpreter flush into nothing when it ends."""
    with contextlib.suppress(OSError, ValueError):
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, sys.stdout.fileno())
        os.close(handle)
