"""A star that varies before static light: fluxes and covariance against what the stamps were made of."""

import numpy as np
import pytest

from larun.algorithms.psf import gaussian_psf, moffat_psf
from larun.algorithms.scene import SceneOptions, fit_scene
from larun.errors import OptionError

SIDE = 23
SKY = 200.0


def series(seed, flux, *, neighbours=True):
    """Stamps with another seeing, place and sky each; neighbours and a smooth galaxy do not vary."""
    rng = np.random.default_rng(seed)
    count = len(flux)
    psfs = [moffat_psf(float(width), 3.0) for width in np.linspace(2.6, 3.8, count)]
    centres = np.array([11.0, 11.0]) + rng.uniform(-0.5, 0.5, (count, 2))
    beside = np.array([[2.3, -1.2], [-3.4, 2.2], [0.8, 4.1]])
    steps = np.linspace(-3, 3, 7)
    galaxy = np.stack([part.ravel() for part in np.meshgrid(steps, steps)], axis=1)
    light = 150 * np.exp(-np.sum(galaxy**2, axis=1) / 8)
    stamps, variance = [], []
    for psf, centre, own in zip(psfs, centres, flux, strict=True):
        x, y = [centre[0]], [centre[1]]
        values = [own]
        if neighbours:
            x += [*(centre[0] + beside[:, 0]), *(centre[0] + galaxy[:, 0])]
            y += [*(centre[1] + beside[:, 1]), *(centre[1] + galaxy[:, 1])]
            values += [4000.0, 2500.0, 6000.0, *light]
        model = psf.draw((SIDE, SIDE), x, y, values) + SKY + rng.normal(0, 20)
        variance.append(model)
        stamps.append(rng.normal(model, np.sqrt(model)))
    return np.array(stamps), np.array(variance), psfs, centres


FLUX = np.array([0.0, 0.0, 0.0, 500.0, 2000.0, 4000.0, 2500.0, 800.0])
ABSENT = np.arange(8) < 3


def test_fluxes_and_their_covariance_are_right():
    away = []
    for seed in range(12):
        stamps, variance, psfs, centres = series(seed, FLUX)
        found = fit_scene(stamps, variance, psfs, centres, absent=ABSENT, options=SceneOptions(reach=6))
        own = ~ABSENT
        root = np.linalg.cholesky(found.covariance[np.ix_(own, own)])
        away.append(np.linalg.solve(root, found.flux[own] - FLUX[own]))
        assert found.chi2 == pytest.approx(1, abs=0.08)
        assert np.all(found.flux[ABSENT] == 0)
    away = np.array(away)
    assert np.std(away) == pytest.approx(1.0, abs=0.25)
    assert abs(np.mean(away)) < 3 / np.sqrt(away.size)


def test_neighbours_that_do_not_vary_are_no_part_of_the_flux():
    stamps, variance, psfs, centres = series(3, FLUX)
    found = fit_scene(stamps, variance, psfs, centres, absent=ABSENT)
    # a circle sees them come and go with the seeing, where the star gives no light at all
    y, x = np.mgrid[:SIDE, :SIDE]
    circles = [
        float(np.sum((stamp - np.median(stamp))[np.hypot(x - c[0], y - c[1]) < 4]))
        for stamp, c in zip(series(3, np.zeros(8))[0], centres, strict=True)
    ]
    assert np.ptp(circles) > 5 * np.median(found.error[3:])
    assert np.max(np.abs(found.flux - FLUX)[3:] / found.error[3:]) < 4
    assert found.scene.sum() == pytest.approx(12500 + 150 * 22.4, rel=0.15)


def test_without_epochs_of_its_absence_fluxes_are_differences():
    flux = np.array([3000.0, 3000.0, 2970.0, 2970.0, 3000.0, 3000.0])
    stamps, variance, psfs, centres = series(5, flux)
    found = fit_scene(stamps, variance, psfs, centres)
    assert np.sum(found.flux) == pytest.approx(0, abs=1e-6)
    pull = (found.flux - (flux - flux.mean())) / found.error
    assert np.max(np.abs(pull)) < 4
    assert np.linalg.matrix_rank(found.covariance, tol=1e-6 * found.covariance.max()) == 5


def test_alone_it_is_as_good_as_a_fit_of_a_star_and_masked_pixels_do_not_count():
    psf = gaussian_psf(3.0)
    rng = np.random.default_rng(1)
    truth = np.array([0.0, 0.0, 0.0, 0.0, 5000.0])
    stamps = np.array([psf.draw((SIDE, SIDE), [11.2], [10.9], [f]) + SKY for f in truth])
    variance = np.full(stamps.shape, SKY)
    stamps += rng.normal(0, np.sqrt(SKY), stamps.shape)
    stamps[4, 3, 3], stamps[2, 11, 11] = np.nan, np.nan
    found = fit_scene(stamps, variance, [psf] * 5, [[11.2, 10.9]] * 5, absent=truth == 0)
    y, x = np.mgrid[:SIDE, :SIDE]
    shape = psf.values(x - 11.2, y - 10.9)[0]
    alone = np.sqrt(SKY / np.sum(shape**2))
    assert alone < found.error[4] < 1.25 * alone  # four epochs tell what is static
    assert found.pixels == stamps.size - 2
    assert np.isnan(found.residual[4, 3, 3])
    assert abs(found.flux[4] - 5000) < 4 * found.error[4]


def test_what_makes_no_sense_is_refused():
    psf = gaussian_psf(3.0)
    stamps = np.zeros((2, 9, 9))
    with pytest.raises(OptionError, match="nothing to compare"):
        fit_scene(stamps, stamps + 1, [psf] * 2, [[4, 4]] * 2, absent=[True, True])
    with pytest.raises(OptionError, match="must be"):
        fit_scene(stamps, stamps + 1, [psf], [[4, 4]] * 2)
    with pytest.raises(OptionError, match="unknowns"):
        fit_scene(stamps, stamps + 1, [psf] * 2, [[4, 4]] * 2, options=SceneOptions(reach=20))
    with pytest.raises(OptionError, match="reach"):
        SceneOptions(reach=0)
