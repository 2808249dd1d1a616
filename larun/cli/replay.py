"""``larun replay``: products made again from the raw files, and what differs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.text import Text

from larun.cli.running import CANNOT_READ, FAILED, OK
from larun.errors import FileError, LarunError, OptionError, RawNotFound
from larun.model.replay.recompute import Replay, Replayer, products_in
from larun.provenance.show import printable
from larun.report.terminal import cell, console, heading, write_json

__all__ = ["refuse_without_setting", "show"]

_STYLES = {"the same": "green", "differs": "bold red", "cannot be made again": "yellow", "cannot be read": "bold red"}


def refuse_without_setting(dry_run: bool, out: Path | None, masters: Iterable[Path] | None) -> None:
    """Refuse options that need another option of the chain, which was not given.

    Raises
    ------
    OptionError
        If one of them was said.
    """
    said = {"--dry-run": dry_run, "--out": out is not None, "--masters": bool(masters)}
    if wrong := [name for name, given in said.items() if given]:
        raise OptionError(
            f"{', '.join(wrong)}: without --set products are made again as they are and compared: say what is to be "
            "different, as --set clean.sigma=5"
        )


def show(path: Path, raw: Iterable[Path], as_json: bool) -> int:
    """Make a product, or all in a folder, again and tell what differs.

    Returns
    -------
    int
        1 if one differs or cannot be made again, 3 if all that is wrong is that one cannot be read, else 0.
    """
    folder = path.is_dir()
    paths = products_in(path) if folder else (path,)
    replayer, screen = Replayer(raw), console()
    rows: list[dict[str, Any]] = []
    for product in paths:
        name = str(product.relative_to(path)) if folder else str(product)
        verdict, reasons, row = _verdict(replayer, product)
        rows.append({"name": name, "verdict": verdict, "reasons": reasons} | row)
        if not as_json:
            screen.print(Text(f"{verdict}  ", style=_STYLES[verdict]).append(printable(name), style="bold"))
            for reason in reasons:
                screen.print(Padding(cell(reason), (0, 0, 0, 4), expand=False))
    verdicts = [row["verdict"] for row in rows]
    wrong = set(verdicts) - {"the same"}
    code = OK if not wrong else CANNOT_READ if wrong == {"cannot be read"} else FAILED
    if as_json:
        write_json({"products": rows, "code": code})
    else:
        screen.print(heading(f"{verdicts.count('the same')} of {len(rows)} made again, bit for bit the same"))
    return code


def _verdict(replayer: Replayer, product: Path) -> tuple[str, list[str], dict[str, Any]]:
    try:
        made: Replay = replayer.replay(product)
    except FileError as error:
        return "cannot be read", [str(error)], {}
    except RawNotFound as error:
        return "cannot be made again", [str(error)], {}
    except LarunError as error:
        return "cannot be made again", [f"{type(error).__name__}: {error}"], {}
    reasons = [*map(str, made.differences), *(f"note: {note}" for note in made.notes)]
    return ("the same" if made.equal else "differs"), reasons, made.to_dict()
