"""How wide the stars of an image are, from the image alone: background, stars, fits; against photutils."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import BETA, FWHM, READ_NOISE, SKY

__all__ = ["CASES"]

_FAINTEST, _BRIGHTEST = 1e4, 2e5  # electrons
_FIT = 11  # pixels along a side of a fit


def _stars(folder: Path, size: Size) -> None:
    """Stars on a grid, each off it by up to half a pixel."""
    import numpy as np

    from larun import simulate

    rng = np.random.default_rng(33)
    count = int(np.ceil(np.sqrt(size.stars)))
    step = size.side / count
    y, x = (
        part.ravel()[: size.stars] for part in np.meshgrid(*(np.arange(count) * step + step / 2,) * 2, indexing="ij")
    )
    x, y = (part + rng.uniform(-0.5, 0.5, part.size) for part in (x, y))
    flux = 10 ** rng.uniform(np.log10(_FAINTEST), np.log10(_BRIGHTEST), x.size)
    light = simulate.render((size.side, size.side), x, y, flux, fwhm=FWHM, beta=BETA)
    np.save(folder / "stars.npy", simulate.noisy(light + SKY, read_noise=READ_NOISE, rng=rng).astype(np.float32))


def _setup(folder: Path) -> Any:
    import numpy as np

    return np.load(folder / "stars.npy")


def _setup_larun(folder: Path) -> Any:
    import numpy as np

    import larun

    data = _setup(folder)
    return larun.Frame.from_arrays(data, variance=np.maximum(data, 0) + READ_NOISE**2, unit="electron")


def _larun(frame: Any) -> Any:
    return frame.quality()


def _photutils(data: Any) -> Any:
    import warnings

    import numpy as np
    from photutils.background import Background2D
    from photutils.detection import DAOStarFinder
    from photutils.psf import fit_fwhm

    sky = Background2D(data, 64)
    level = data - sky.background
    found = DAOStarFinder(threshold=15 * float(np.median(sky.background_rms)) / 3, fwhm=FWHM)(level)
    places = np.column_stack([found["x_centroid"], found["y_centroid"]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that may not have converged
        return fit_fwhm(level, xypos=places, fit_shape=_FIT, fwhm=FWHM)


def _digest_larun(found: Any) -> Digest:
    import numpy as np

    return {"gaussian": np.asarray(found.table["fwhm_gaussian"]), "moffat": np.asarray(found.table["fwhm"])}


def _digest_photutils(found: Any) -> Digest:
    import numpy as np

    return {"gaussian": np.asarray(found, float)}


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    counts = [side["gaussian"].size for side in (ours, theirs)]
    require(abs(counts[0] / counts[1] - 1) < 0.05, f"{counts[0]} and {counts[1]} stars")
    widths = [float(np.nanmedian(side["gaussian"])) for side in (ours, theirs)]
    require(abs(widths[0] / widths[1] - 1) < 0.03, f"Gaussians of {widths[0]:.3f} and {widths[1]:.3f} pixels")
    moffat = float(np.nanmedian(ours["moffat"]))
    require(abs(moffat / FWHM - 1) < 0.01, f"FWHM {moffat:.3f} pixels, {FWHM} in truth")
    return (
        f"{counts[0]} / {counts[1]} stars from the image alone; Gaussians of {widths[0]:.3f} / {widths[1]:.3f} pixels "
        f"(larun / peer); larun fits Moffat profiles, curve of growth and field too, and finds {moffat:.3f} of {FWHM}"
    )


CASES = (
    Case(
        topic="quality",
        name="stars",
        make=_stars,
        larun=Side("larun", _setup_larun, _larun, _digest_larun),
        peer=Side("photutils", _setup, _photutils, _digest_photutils),
        check=_check,
        full=Size(2048, stars=1000),
        quick=Size(700, stars=121),
        bar=10,
        unit="star",
    ),
)
