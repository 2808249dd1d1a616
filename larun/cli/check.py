"""``larun check``: a night against its own noise model, in words, as JSON, and as pictures."""

from __future__ import annotations

from pathlib import Path

from larun.cli.progress import progress_bar
from larun.cli.running import FAILED, OK
from larun.cli.warmup import compile_first
from larun.errors import OptionError
from larun.model.checks.driver import check_products
from larun.model.night import Night
from larun.model.recipe import Recipe
from larun.plots.canvas import require
from larun.report import check
from larun.report.terminal import console, heading, write_json

__all__ = ["show"]


def show(
    folder: Path,
    out: Path | None,
    recipe: Recipe | None,
    jobs: int | None,
    pictures: Path | None,
    everything: bool,
    as_json: bool,
) -> int:
    """Test a folder of raw frames or of products, and tell what was found; code 1 if anything is bad."""
    if pictures is not None:
        require()  # not after a minute of tests
    compile_first("everything")
    with progress_bar() as progress:
        if (folder / "frames").is_dir() and (folder / "catalogs").is_dir():
            if out is not None:
                raise OptionError(
                    f"--out {out}: {folder} holds products already: leave --out away, or give the raw frames that they "
                    f"were made of (larun check RAW --out {folder})"
                )
            report = check_products(folder, recipe=recipe, processes=jobs, progress=progress)
        else:
            report = Night(folder).check(out=out, recipe=recipe, processes=jobs, progress=progress)
    drawn = {} if pictures is None else check.draw(report, pictures)
    if as_json:
        made = report.to_dict()
        write_json(made | {"pictures": {str(key): str(path) for key, path in drawn.items()}})
    else:
        screen = console()
        shown = report.verdicts if everything else report.faults
        if shown:
            for part in check.told(shown):
                screen.print(part)
            screen.print()
        screen.print(heading(check.outcome(report)))
        if drawn:
            screen.print(f"{len(drawn)} pictures in {pictures}")
    return FAILED if report.worst == "bad" else OK
