"""Tables of the documentation that are made from the code, so that they cannot disagree with it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from larun import flags
from larun.cli.running import __doc__ as running_doc
from larun.io.product import __doc__ as product_doc
from larun.model.headers import KEYWORDS
from larun.model.image import Image  # noqa: F401  (fills the registry of operations)
from larun.model.measure import schema
from larun.model.night import Night  # noqa: F401
from larun.provenance import OPERATIONS

__all__ = ["write_all"]


def _table(heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def flag_table() -> str:
    """Every pixel flag."""
    rows = (
        (flag.bit, int(flag.value), f"`{flag.name}`", "yes" if flag.value & flags.UNUSABLE else "", flag.meaning)
        for flag in flags.TABLE
    )
    return _table(("bit", "value", "name", "unusable", "meaning"), rows)


def column_table() -> str:
    """Every column of a catalogue."""
    made = []
    for suffix, columns in schema.GROUPS:
        for column in columns:
            unit = "of the image" if column.unit == "image" else column.unit
            meaning = column.description.replace("{radius:.3f} pix", "radius k").replace("{size}", "size k")
            made.append((f"`{column.name}{suffix}`", column.dtype.__name__, unit, meaning))
    return _table(("column", "type", "unit", "meaning"), made)


def keyword_table() -> str:
    """Which keywords stand for which quantity."""
    rows = ((f"`{name}`", ", ".join(f"`{key}`" for key in keys)) for name, keys in KEYWORDS.items())
    return _table(("quantity", "looked for in this order"), rows)


def operation_table() -> str:
    """Every operation that records itself."""
    rows = (
        (f"`{known.name}`", known.version, known.reach, f"`{known.function.__qualname__}`")
        for _, known in sorted(OPERATIONS.items())
    )
    return _table(("operation", "version", "reach", "method"), rows)


def hdu_table() -> str:
    """The HDUs of a product, from the docstring of the module that writes them (a table in reStructuredText)."""
    return f"```{{eval-rst}}\n{product_doc.partition(chr(10) * 2)[2].strip()}\n```\n"


def command_text() -> str:
    """The help text of every command."""
    from typer.main import get_command
    from typer.testing import CliRunner

    from larun.cli.app import app

    runner = CliRunner()
    made = []
    words = []
    for name, found in get_command(app).commands.items():
        words += [(name, inner) for inner in found.commands] if hasattr(found, "commands") else [(name,)]
    for command in words:
        screen = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
        shown = runner.invoke(app, [*command, "--help"], prog_name="larun", env=screen)
        text = "\n".join(line.rstrip() for line in shown.output.strip().splitlines())
        made.append(f"## larun {' '.join(command)}\n\n```text\n{text}\n```\n")
    return "\n".join(made)


def exit_code_table() -> str:
    """The exit codes, from the docstring of the module that returns them (a table in reStructuredText)."""
    return f"```{{eval-rst}}\n{running_doc.partition(chr(10) * 2)[2].strip()}\n```\n"


def write_all(folder: Path) -> None:
    """Write every table as a file to be included; one that has not changed is left alone."""
    folder.mkdir(exist_ok=True)
    tables = {
        "flags": flag_table(),
        "columns": column_table(),
        "keywords": keyword_table(),
        "operations": operation_table(),
        "hdus": hdu_table(),
        "commands": command_text(),
        "exit-codes": exit_code_table(),
    }
    for name, text in tables.items():
        path = folder / f"{name}.inc"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
