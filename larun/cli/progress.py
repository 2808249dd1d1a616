"""A progress bar on standard error, where somebody looks at it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["progress_bar"]


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A function to call with a name, a number and a total; silent where standard error is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from larun.provenance.show import printable
    from larun.report.terminal import console

    screen = console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # Standard output is left alone: it may be a pipe that wants JSON.
    with Progress(
        *columns, console=screen, disable=not screen.is_terminal, transient=True, redirect_stdout=False
    ) as bar:
        task = bar.add_task("looking at the files", total=None)

        def show(name: str, number: int, total: int) -> None:
            bar.update(task, description=printable(name)[:40], completed=number, total=total)

        yield show
