"""Errors of what is measured on one frame hold all of its noise: its own, and that of the masters it was made with."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import larun

SIDE, READ_NOISE, SKY, BIAS, EXPOSURE = 640, 6.0, 15.0, 1000.0, 60.0
RADII = (1.5, 2.0, 3.0, 4.5, 6.0)  # pixels
SPACING = 14  # of the apertures: none overlap

#: Electrons in the frame, which say how much each kind of master counts: 3 darks; 2 flats, of light enough.
SKIES = {"3 darks, a faint sky": (3, (20000.0,) * 5, SKY), "2 faint flats, a bright sky": (9, (400.0,) * 2, 4000.0)}


def _raw(rng: np.random.Generator, level: float | NDArray[np.float64], exposure: float) -> larun.Frame:
    counts = BIAS + rng.normal(0, READ_NOISE, (SIDE, SIDE)) + rng.poisson(level, (SIDE, SIDE))
    header = {"EXPTIME": exposure, "INSTRUME": "camera"}
    return larun.Frame.from_arrays(np.rint(counts), gain=1.0, read_noise=READ_NOISE, header=header)


def _frame(
    darks: int, flats: tuple[float, ...], sky: float | NDArray[np.float64], *, seed: int
) -> tuple[larun.Frame, larun.Masters, np.random.Generator]:
    """A calibrated frame of a sky, its masters, and what goes on being random."""
    rng = np.random.default_rng(seed)
    bias = larun.MasterBias.combine([_raw(rng, 0, 0) for _ in range(9)])
    dark = larun.MasterDark.combine([_raw(rng, 4, EXPOSURE) for _ in range(darks)], bias=bias)
    flat = larun.MasterFlat.combine([_raw(rng, level, 1) for level in flats], bias=bias)
    masters = larun.Masters((bias, dark, flat))
    return _raw(rng, sky + 4.0, EXPOSURE).calibrate(masters), masters, rng


def _places() -> NDArray[np.float64]:
    """Where apertures are measured, at all sorts of places within their pixels."""
    line = np.arange(SPACING, SIDE - SPACING, SPACING)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2).astype(float)
    return grid + np.random.default_rng(3).uniform(-0.5, 0.5, grid.shape)


@pytest.mark.parametrize(("darks", "flats", "sky"), SKIES.values(), ids=SKIES)
def test_acceptance_23_apertures_scatter_as_their_errors_say_with_few_calibration_frames(
    darks: int, flats: tuple[float, ...], sky: float
) -> None:
    frame, _, _ = _frame(darks, flats, sky, seed=11)
    with pytest.warns(larun.errors.LarunWarning, match="too few stars"):
        found = frame.photometer(_places(), RADII, unit="pixel", sky="annulus", annulus=(20, 40))
    share = float(np.median(frame.variance) / np.median(frame.uncertainty) ** 2)
    assert share < 0.85  # or the masters would not be tested
    for number in range(1, len(RADII) + 1):
        flux, error = (found[f"aperture_{name}_{number}"].value for name in ("flux", "flux_error"))
        pull = flux / error
        assert len(pull) > 1900  # 1.6 % of the scatter
        assert 1.4826 * np.median(np.abs(pull - np.median(pull))) == pytest.approx(1, abs=0.05)
        assert np.std(pull) == pytest.approx(1, abs=0.05)


def test_ellipses_have_the_errors_of_circles() -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    stars = 3000 / (2 * np.pi * 2.0**2) * np.exp(-0.5 * (((x % 40) - 20) ** 2 + ((y % 40) - 20) ** 2) / 2.0**2)
    frame, _, _ = _frame(3, (20000.0,) * 5, SKY + stars, seed=12)
    found = frame.detect(fwhm=4.7)
    circles = found.photometer((6.0,), unit="pixel", sky="background")
    ellipses = circles.photometer((6.0,), unit="pixel", aperture="elliptical")
    ratio = ellipses["ellipse_flux_error_1"].value / circles["aperture_flux_error_1"].value
    assert np.median(ratio) == pytest.approx(1, abs=0.01)


def test_a_detection_threshold_counts_all_noise() -> None:
    frame, _, _ = _frame(3, (20000.0,) * 5, SKY, seed=13)
    sky = frame.background()
    assert np.sqrt(np.median(sky.variance)) == pytest.approx(np.median(sky.rms), rel=0.03)


def test_cosmic_rays_are_told_from_all_noise_and_the_masters_part_stays_apart() -> None:
    # by the frame's own noise alone many more pixels would stand out by 4 sigma
    frame, _, _ = _frame(2, (20000.0,) * 5, SKY, seed=14)
    cleaned = frame.clean(fwhm=3.0, sigma=4.0)
    struck = (cleaned.flags & larun.flags.COSMIC) != 0
    alone = frame._replace(shared=()).clean(fwhm=3.0, sigma=4.0)
    assert struck.sum() < 0.5 * ((alone.flags & larun.flags.COSMIC) != 0).sum()
    assert np.array_equal(cleaned.variance[~struck], frame.variance[~struck])
    assert [item.master for item in cleaned.shared] == [item.master for item in frame.shared]
