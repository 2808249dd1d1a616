"""What commands on folders share: the calibrated frames, and those of one field."""

from __future__ import annotations

from pathlib import Path

from larun.cli.running import say
from larun.errors import FileError, OptionError

__all__ = ["calibrated_frames", "of_one_field"]


def calibrated_frames(folder: Path, out: Path, how: tuple[list[str] | None, str], *, flag_only: bool) -> list[Path]:
    """Calibrated frames of a folder; a raw night is reduced first.

    Parameters
    ----------
    folder : Path
        Of raw frames, of a reduction, or of calibrated frames.
    out : Path
        A raw night is reduced to the folder ``reduced`` in it.
    how : (list of str or None, str)
        What headers do not say, as ``KEY=VALUE``; masters to do without, with commas.
    flag_only : bool
        Cosmic rays are flagged, and keep their values.

    Raises
    ------
    FileError
        If the folder is not there, or holds no science frame that could be calibrated.
    """
    from larun.io.product import is_product

    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder")
    inside = folder / "frames" if (folder / "frames").is_dir() else folder
    made = [path for path in sorted(inside.glob("*.fits")) if is_product(path)]
    if made:
        return made
    from larun.cli import options
    from larun.cli.progress import progress_bar
    from larun.cli.warmup import compile_first
    from larun.model.night import Night

    keywords, without = how
    recipe = options.recipe_from(keywords=keywords, without=[without] if without else None, flag_only=flag_only)
    compile_first("stacks")
    with progress_bar() as progress:
        summary = Night(folder).reduce(out / "reduced", recipe=recipe, progress=progress)
    for row in summary.failed:
        say("error", row.message if row.name in row.message else f"{row.name}: {row.message}")
    found = sorted((out / "reduced" / "frames").glob("*.fits"))
    if not found:
        raise FileError(f"{folder}: holds no science frame that could be calibrated")
    return found


def of_one_field(frames: list[Path], object_: str | None, filter_: str | None) -> list[Path]:
    """The frames of one object in one filter.

    Raises
    ------
    OptionError
        If there are several, or none.
    """
    from larun.model.stacking.series import groups_of

    groups = groups_of(frames)
    kept = {
        key: paths
        for key, paths in groups.items()
        if (object_ is None or key[0] == object_) and (filter_ is None or key[1] == filter_)
    }
    if len(kept) != 1:
        names = "; ".join(f"{key[0]} in {key[1] or 'no filter'} ({len(paths)})" for key, paths in groups.items())
        what = "no frames are left" if not kept else "frames of several objects or filters"
        raise OptionError(f"{what}: there are {names}; choose with --object and --filter")
    return next(iter(kept.values()))
