"""Position and flux of isolated stars, by a known point-spread function and by their own, against other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import BETA, FWHM, READ_NOISE, SKY
from tests.benchmarks.topics.psf_chain import CHAIN

__all__ = ["CASES", "isolated", "load", "setup_larun", "setup_photutils"]

_SHAPE = 9  # pixels along a side of a fit
_STEP = 20  # pixels between stars
_FAINTEST, _BRIGHTEST = 2e3, 2e5  # electrons


def isolated(folder: Path, size: Size) -> None:
    """Stars on a grid, each off it by up to half a pixel, where to start, and samples of their profile."""
    import numpy as np

    from larun import simulate
    from larun.algorithms.psf import moffat_psf

    rng, shape = np.random.default_rng(31), (size.side, size.side)
    middle = np.arange(_STEP / 2, size.side - _STEP / 2 + 1, _STEP)
    y, x = (part.ravel()[: size.stars] for part in np.meshgrid(middle, middle, indexing="ij"))
    x, y = (part + rng.uniform(-0.5, 0.5, part.size) for part in (x, y))
    flux = 10 ** rng.uniform(np.log10(_FAINTEST), np.log10(_BRIGHTEST), x.size)
    light = simulate.render(shape, x, y, flux, fwhm=FWHM, beta=BETA)
    data = simulate.noisy(light + SKY, read_noise=READ_NOISE, rng=rng).astype(np.float32)
    start = np.column_stack([x, y]) + rng.normal(0, 0.1, (x.size, 2))
    at = np.arange(-12 * 4, 12 * 4 + 1) / 4
    samples = moffat_psf(FWHM, BETA, radius=14).values(at[None, :], at[:, None])[0]
    np.savez(folder / "stars.npz", data=data, x=x, y=y, flux=flux, start=start, samples=samples)


def load(folder: Path) -> Any:
    """Image, truth, starts and samples, by name."""
    import numpy as np

    with np.load(folder / "stars.npz") as kept:
        return {name: kept[name] for name in kept.files}


def setup_larun(folder: Path) -> Any:
    """Planes, the PSF, and where to start."""
    import numpy as np

    from larun.algorithms.psf import psf_from_samples

    given = load(folder)
    data = given["data"]
    level = np.full_like(data, SKY)
    planes = data, level, level + np.float32(READ_NOISE**2), np.zeros(data.shape, np.uint32)
    return planes, psf_from_samples(given["samples"], 4, fwhm=FWHM), given["start"]


def _larun(state: Any) -> Any:
    from larun.algorithms.psf_fit import FitOptions, fit_stars

    planes, psf, start = state
    return fit_stars(planes, psf, start[:, 0], start[:, 1], options=FitOptions(reach=_SHAPE // 2))


def setup_photutils(folder: Path) -> Any:
    """Image above the sky, its errors, the PSF, and where to start."""
    import numpy as np
    from astropy.table import QTable
    from photutils.psf import ImagePSF

    given = load(folder)
    data = given["data"] - np.float32(SKY)
    sigma = np.sqrt(np.maximum(data, 0) + SKY + READ_NOISE**2)
    model = ImagePSF(given["samples"], oversampling=4)
    start = QTable({"x": given["start"][:, 0], "y": given["start"][:, 1]})
    return data.astype(float), sigma.astype(float), model, start


def _photutils(state: Any) -> Any:
    from photutils.psf import PSFPhotometry

    data, sigma, model, start = state
    return PSFPhotometry(model, (_SHAPE, _SHAPE), aperture_radius=4)(data, error=sigma, init_params=start)


def _digest_larun(found: Any) -> Digest:
    return {"x": found.x, "y": found.y, "flux": found.flux, "error": found.flux_error, "x_error": found.x_error}


def _digest_photutils(table: Any) -> Digest:
    import numpy as np

    names = {"x": "x_fit", "y": "y_fit", "flux": "flux_fit", "error": "flux_err", "x_error": "x_err"}
    return {name: np.asarray(table[column], float) for name, column in names.items()}


def _width(values: Any) -> float:
    import numpy as np

    return float(np.subtract(*np.quantile(values, (0.8413, 0.1587))) / 2)


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    true = load(folder)
    sides = []
    for side in (ours, theirs):
        good = np.isfinite(side["flux"]) & (side["error"] > 0)
        require(good.mean() > 0.99, f"only {good.mean():.1%} of the stars have a flux")
        pull = _width(((side["flux"] - true["flux"]) / side["error"])[good])
        place = _width(((side["x"] - true["x"]) / side["x_error"])[good])
        faint = good & (true["flux"] < 4000)
        bias = float(np.mean((side["flux"] / true["flux"])[faint]) - 1)
        sides.append((pull, place, bias))
    allowed = max(0.05, 3.6 / np.sqrt(2 * true["x"].size))  # three errors of a robust width where stars are few
    require(abs(sides[0][0] - 1) < allowed, f"pull of larun's fluxes {sides[0][0]:.3f}")
    require(abs(sides[0][1] - 1) < allowed, f"pull of larun's positions {sides[0][1]:.3f}")
    gap = np.abs(ours["flux"] - theirs["flux"]) / ours["error"]
    require(np.nanmedian(gap) < 0.5, f"fluxes differ by {np.nanmedian(gap):.2f} sigma in the median")
    away = float(np.nanmedian(np.hypot(ours["x"] - theirs["x"], ours["y"] - theirs["y"]) / ours["x_error"]))
    require(away < 0.7, f"positions differ by {away:.2f} sigma in the median")
    return (
        f"{true['x'].size} stars, a known PSF, fits of {_SHAPE} × {_SHAPE} pixels: robust pulls of flux "
        f"{sides[0][0]:.3f} / {sides[1][0]:.3f} and of x {sides[0][1]:.3f} / {sides[1][1]:.3f}, mean flux of faint "
        f"stars {sides[0][2]:+.2%} / {sides[1][2]:+.2%} off the truth (larun / peer); fluxes differ by "
        f"{float(np.nanmedian(gap)):.2f} sigma in the median: weights of larun are the model's, not the pixels' own"
    )


CASES = (
    Case(
        topic="psf",
        name="isolated",
        make=isolated,
        larun=Side("larun", setup_larun, _larun, _digest_larun),
        peer=Side("photutils", setup_photutils, _photutils, _digest_photutils),
        check=_check,
        full=Size(1420, stars=5000),
        quick=Size(420, stars=400),
        bar=150,
        unit="star",
    ),
    *CHAIN,
)
