"""Where pictures are drawn and how they become files; what every picture has in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from larun.errors import FileError, MissingExtra, OptionError
from larun.io.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = [
    "ANNULUS",
    "APERTURE",
    "COLOURS",
    "FLAGGED",
    "SOURCE",
    "add_legend",
    "axes_in",
    "figure_in",
    "require",
    "save",
]

# Colours that are told apart with the common forms of colour blindness (Okabe & Ito 2008); flags beyond them repeat.
COLOURS = ("#D55E00", "#CC79A7", "#F0E442", "#56B4E9", "#E69F00", "#009E73", "#0072B2", "#999999")
SOURCE, FLAGGED, APERTURE, ANNULUS = "#56B4E9", "#D55E00", "#009E73", "#CC79A7"

SUFFIXES = {".png": "png", ".pdf": "pdf", ".svg": "svg"}
_STARTS = (b"\x89PNG\r\n", b"%PDF-", b"<?xml", b"<svg")
_LEGEND_BELOW = 42 / 72  # inch from the axes to a legend below: room for tick labels and the axis label
_ENTRY = 1.3  # inch that an entry of a legend takes
_ENDS = 1 << 16


def require() -> None:
    """Make sure that matplotlib is there.

    Raises
    ------
    MissingExtra
        If it is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: F401  # only to see whether it is there
    except ImportError as error:
        raise MissingExtra("matplotlib", "plots") from error


def figure_in(figure: Figure | SubFigure | None, size: tuple[float, float]) -> Any:
    """The figure, or a new one of so many inches that pyplot knows (a notebook shows it)."""
    require()
    if figure is not None:
        return figure
    from matplotlib import pyplot as plt

    return plt.figure(figsize=size, layout="constrained")


def axes_in(ax: Axes | Figure | SubFigure | None, size: tuple[float, float] = (6, 6), *, projection: Any = None) -> Any:
    """The axes, or new ones in the figure, or new ones in a new figure."""
    require()
    if ax is not None and not hasattr(ax, "add_subplot"):
        return ax
    return figure_in(ax, size).add_subplot(projection=projection)  # type: ignore[arg-type]


def add_legend(ax: Axes, handles: list[Artist]) -> None:
    """A legend below the axes, where it hides nothing, with the entries of an earlier one first."""
    from matplotlib.transforms import ScaledTranslation

    earlier = ax.get_legend()
    entries = [*(earlier.legend_handles if earlier is not None else []), *handles]
    if not entries:
        return
    # A legend wider than its axes would push them together.
    width = ax.get_position().width * ax.figure.bbox.width / ax.figure.dpi
    shift = ScaledTranslation(0, -_LEGEND_BELOW, ax.figure.dpi_scale_trans)
    ax.legend(
        handles=entries,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=ax.transAxes + shift,
        borderaxespad=0.0,
        ncols=max(1, min(3, len(entries), int(width / _ENTRY))),
        fontsize="small",
        frameon=False,
    )


def save(picture: Axes | Figure, path: str | Path, *, overwrite: bool = False, dpi: int = 150) -> Path:
    """Write a figure as PNG, PDF or SVG, by the suffix; the file appears whole or not at all.

    The same picture gives the same bytes: no date is written. A picture that larun wrote before is replaced; anything
    else only when told so.

    Parameters
    ----------
    picture : Axes or Figure
        What to write; it stays open.
    path : path
        ``.png``, ``.pdf`` or ``.svg``.
    overwrite : bool
        Replace a file that larun did not draw.
    dpi : int
        Pixels per inch of a PNG, and of images inside the other forms.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OptionError
        If the suffix is unknown.
    FileError
        If the file cannot be written, or exists, is not a picture of larun, and ``overwrite`` is not set. A FITS
        file is never replaced.
    """
    require()
    import matplotlib as mpl

    from larun import __version__

    path = Path(path)
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise OptionError(f"{path}: a picture is written as {', '.join(SUFFIXES)}, by the suffix of its name")
    if path.is_file() and not overwrite and not drawn_by_larun(path):
        raise FileError(
            f"{path} exists and is not a picture of larun: choose another name, or say overwrite=True (--overwrite)"
        )
    figure: Any = picture if hasattr(picture, "savefig") else picture.figure
    stamp = f"larun {__version__}"
    stamps: dict[str, dict[str, Any]] = {
        "png": {"Software": stamp},
        "pdf": {"Creator": stamp, "CreationDate": None},
        "svg": {"Creator": stamp, "Date": None},
    }
    with (
        atomic_path(path, overwrite=True, replaceable=_is_no_fits) as temporary,
        mpl.rc_context({"svg.hashsalt": "larun"}),
    ):
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=stamps[kind], bbox_inches="tight", pad_inches=0.08)
    return path


def drawn_by_larun(path: Path) -> bool:
    """Whether a file is a picture that :func:`save` wrote; an empty file holds nothing to lose."""
    with path.open("rb") as file:
        start = file.read(_ENDS)
        file.seek(max(0, path.stat().st_size - _ENDS))
        end = file.read()
    return not start or (start.startswith(_STARTS) and b"larun " in start + end)


def _is_no_fits(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9) != b"SIMPLE  ="
