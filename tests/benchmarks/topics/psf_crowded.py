"""Stars of a crowded field by a known point-spread function, against groups of photutils."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import BETA, FWHM, READ_NOISE, SKY
from tests.benchmarks.topics.psf import load, setup_larun, setup_photutils

__all__ = ["CASES", "crowded"]

_SHAPE = 9  # pixels along a side of a fit
_LINK = 1.5  # FWHM within which stars are of one group
_FAINTEST, _BRIGHTEST = 1e3, 2e5  # electrons


def crowded(folder: Path, size: Size) -> None:
    """Stars anywhere, N(> flux) falling as 1 / flux, where to start, and samples of their profile."""
    import numpy as np

    from larun import simulate
    from larun.algorithms.psf import moffat_psf

    rng, shape = np.random.default_rng(37), (size.side, size.side)
    x, y = rng.uniform(0, size.side - 1, (2, size.stars))
    flux = 1 / (1 / _FAINTEST + rng.random(size.stars) * (1 / _BRIGHTEST - 1 / _FAINTEST))
    light = simulate.render(shape, x, y, flux, fwhm=FWHM, beta=BETA)
    data = simulate.noisy(light + SKY, read_noise=READ_NOISE, rng=rng).astype(np.float32)
    start = np.column_stack([x, y]) + rng.normal(0, 0.1, (x.size, 2))
    at = np.arange(-16 * 4, 16 * 4 + 1) / 4
    samples = moffat_psf(FWHM, BETA, radius=18).values(at[None, :], at[:, None])[0]
    np.savez(folder / "stars.npz", data=data, x=x, y=y, flux=flux, start=start, samples=samples)


def _larun(state: Any) -> Any:
    from larun.algorithms.psf_field import FieldOptions, solve_field

    planes, psf, start = state
    return solve_field(planes, psf, *start.T, options=FieldOptions(reach=_SHAPE // 2, link=_LINK))


def _photutils(state: Any) -> Any:
    import warnings

    from photutils.psf import PSFPhotometry, SourceGrouper

    data, sigma, model, start = state
    engine = PSFPhotometry(model, (_SHAPE, _SHAPE), grouper=SourceGrouper(_LINK * FWHM), aperture_radius=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of groups that do not converge
        found = engine(data, error=sigma, init_params=start)
    found.sort("id")
    return found


def _digest_larun(found: Any) -> Digest:
    return {"flux": found.flux, "error": found.flux_error}


def _digest_photutils(table: Any) -> Digest:
    import numpy as np

    return {"flux": np.asarray(table["flux_fit"], float), "error": np.asarray(table["flux_err"], float)}


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    true = load(folder)
    side = len(true["data"])
    inside = (np.minimum(true["x"], true["y"]) > 8) & (np.maximum(true["x"], true["y"]) < side - 9)
    told = []
    for found in (ours, theirs):
        good = inside & np.isfinite(found["flux"]) & (found["error"] > 0)
        pull = (found["flux"] - true["flux"])[good] / found["error"][good]
        width = float(np.subtract(*np.quantile(pull, (0.8413, 0.1587))) / 2)
        told.append((width, float(np.mean(np.abs(pull) > 5)), float(good.sum() / inside.sum())))
    require(told[0][0] <= 1.1, f"robust pull of larun's fluxes {told[0][0]:.3f}")
    require(told[0][1] <= 0.015, f"{told[0][1]:.2%} of larun's fluxes are off by more than 5 sigma")
    require(told[0][2] > 0.99, f"only {told[0][2]:.1%} of the stars have a flux")
    return (
        f"{true['x'].size} stars on {side}² pixels, as dense as 20 000 on 2048², a known PSF, fits of {_SHAPE} × "
        f"{_SHAPE} pixels, stars nearer than {_LINK} FWHM jointly: robust pulls {told[0][0]:.3f} / {told[1][0]:.3f}, "
        f"beyond 5 sigma {told[0][1]:.2%} / {told[1][1]:.2%} (larun / peer); the peer knows of no neighbours but those "
        "of the group"
    )


CASES = (
    Case(
        topic="psf_crowded",
        name="crowded",
        make=crowded,
        larun=Side("larun", setup_larun, _larun, _digest_larun),
        peer=Side("photutils", setup_photutils, _photutils, _digest_photutils),
        check=_check,
        full=Size(640, stars=1953),
        quick=Size(256, stars=312),
        bar=20,
        unit="star",
        slow=True,
        grows=False,
    ),
)
