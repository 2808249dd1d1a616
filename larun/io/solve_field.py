"""The program ``solve-field`` of astrometry.net (Lang et al. 2010, AJ 139, 1782), run on a list of stars.

Nothing of a header becomes an option or a name of a file: the program sees numbers and a table, in a folder of its own
that is gone afterwards.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.errors import NotSolved, OptionError

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["PROGRAM", "ProgramSolution", "Region", "run_solve_field"]

PROGRAM = "solve-field"

_GRACE = 10.0  # seconds beyond the limit that the program sets itself
_LINES = 25  # of the log that an error shows


class Region(NamedTuple):
    """Where to look: degrees, and arcseconds a pixel; None where nothing is known."""

    centre: tuple[float, float] | None = None
    radius: float | None = None
    scale: tuple[float, float] | None = None


class ProgramSolution(NamedTuple):
    """What the program found.

    Attributes
    ----------
    wcs : Header
        With the cards of a TAN projection.
    log_odds : float
        As the program has it.
    ra, dec : ndarray of float64, (n,)
        Stars of its index that it matched, in degrees.
    """

    wcs: Header
    log_odds: float
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]


def run_solve_field(
    xy: NDArray[np.float64], flux: NDArray[np.float64], shape: tuple[int, int], region: Region, *, time_limit: float
) -> ProgramSolution:
    """Find an image by its stars with the index files that are installed.

    Parameters
    ----------
    xy, flux : ndarray of float64, (n, 2) and (n,)
        Stars in pixels from 0, and how bright they are.
    shape : (int, int)
        Rows and columns of the image.
    region : Region
        Where to look.
    time_limit : float
        Seconds that it may take.

    Raises
    ------
    OptionError
        If there is no such program.
    NotSolved
        If it finds nothing, takes too long, or fails; with the end of its log.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise OptionError(
            f"engine='astrometry.net': there is no program {PROGRAM} on the PATH: install it with index files for "
            "fields of this size (Debian: astrometry.net, astrometry-data-tycho2), or use engine='larun'"
        )
    with tempfile.TemporaryDirectory(prefix="larun-") as name:
        folder = Path(name)
        _write_list(folder / "stars.xyls", xy, flux)
        command = [program, *_arguments(folder, shape, region, time_limit), str(folder / "stars.xyls")]
        log = _run(command, folder, time_limit + _GRACE)
        if not (folder / "solved.wcs").is_file():
            raise NotSolved(f"{PROGRAM} found nothing with its index files; the end of its log:\n{_end(log)}")
        return _read(folder, log)


def _write_list(path: Path, xy: NDArray[np.float64], flux: NDArray[np.float64]) -> None:
    from astropy.io import fits

    columns = [
        fits.Column("X", "D", array=xy[:, 0] + 1.0),
        fits.Column("Y", "D", array=xy[:, 1] + 1.0),
        fits.Column("FLUX", "D", array=flux),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)


def _arguments(folder: Path, shape: tuple[int, int], region: Region, time_limit: float) -> list[str]:
    made = ["--no-plots", "--no-tweak", "--no-verify", "--overwrite", "--dir", str(folder), "--temp-dir", str(folder)]
    made += ["--out", "solved", "--wcs", str(folder / "solved.wcs"), "--corr", str(folder / "pairs.fits")]
    made += ["--match", str(folder / "match.fits"), "--new-fits", "none", "--rdls", "none", "--index-xyls", "none"]
    made += ["--x-column", "X", "--y-column", "Y", "--sort-column", "FLUX"]
    made += ["--width", str(shape[1]), "--height", str(shape[0]), "--cpulimit", str(max(1, round(time_limit)))]
    if region.scale is not None:
        made += ["--scale-units", "arcsecperpix", "--scale-low", _number(region.scale[0])]
        made += ["--scale-high", _number(region.scale[1])]
    if region.centre is not None and region.radius is not None:
        made += [f"--ra={_number(region.centre[0])}", f"--dec={_number(region.centre[1])}"]
        made += ["--radius", _number(region.radius)]
    return made


def _number(value: float) -> str:
    return f"{value:.9f}"


def _run(command: list[str], folder: Path, limit: float) -> str:
    """The log of a program; whatever it started ends with it."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        start_new_session=True,
    ) as process:
        try:
            out = process.communicate(timeout=limit)[0]
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            out = process.communicate()[0]
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise NotSolved(f"{PROGRAM} took more than {limit:g} s; the end of its log:\n{_end(_text(out))}") from error
    log = _text(out)
    if process.returncode != 0:
        raise NotSolved(f"{PROGRAM} failed with code {process.returncode}; the end of its log:\n{_end(log)}")
    return log


def _text(out: bytes | None) -> str:
    text = (out or b"").decode("utf-8", "replace")
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)


def _end(log: str) -> str:
    return "\n".join([line for line in log.splitlines() if line.strip()][-_LINES:]) or "(nothing)"


def _read(folder: Path, log: str) -> ProgramSolution:
    from astropy.io import fits

    try:
        header = fits.getheader(folder / "solved.wcs")
        pairs = fits.getdata(folder / "pairs.fits", 1)
        odds = float(np.max(fits.getdata(folder / "match.fits", 1)["LOGODDS"]))
        ra, dec = (np.asarray(pairs[name], np.float64) for name in ("index_ra", "index_dec"))
    except (OSError, KeyError, ValueError) as error:
        raise NotSolved(
            f"{PROGRAM} wrote no solution that can be read ({error}); the end of its log:\n{_end(log)}"
        ) from error
    return ProgramSolution(header, odds, ra, dec)
