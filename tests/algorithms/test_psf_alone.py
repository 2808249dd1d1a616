"""Stars of a field without neighbours: the same as if they were fitted with all others, and what may go wrong."""

import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms import psf_field
from larun.algorithms.jit import set_threads
from larun.algorithms.psf import moffat_psf
from larun.algorithms.psf_alone import fit_alone
from larun.algorithms.psf_field import FieldOptions, solve_field
from larun.algorithms.psf_fit import FitOptions
from tests.algorithms.star_fields import grid

SIDE, SKY = 300, 200.0
PSF = moffat_psf(3.0, 3.0, radius=12)


@pytest.fixture(scope="module")
def field():
    """Stars of S/N 5 to 400 on a grid, but for two pairs; planes, where to start, and fluxes."""
    rng = np.random.default_rng(8)
    x, y = grid(rng, SIDE, 30)
    x, y = np.append(x, x[:2] + np.array([3.1, 4.0])), np.append(y, y[:2] + np.array([2.0, -1.2]))
    flux = 10 ** rng.uniform(2.7, 5.3, x.size)
    light = PSF.draw((SIDE, SIDE), x, y, flux)
    data = (rng.poisson(np.maximum(light, 0) + SKY) + rng.normal(0, 5, light.shape)).astype(np.float32)
    flat = np.full_like(data, SKY)
    planes = data, flat, flat + np.float32(25), np.zeros(data.shape, np.uint32)
    return planes, x + rng.normal(0, 0.1, x.size), y + rng.normal(0, 0.1, x.size), flux


def same(one, other, some=slice(None), share=0.05):
    for name in ("flux", "x", "y"):
        gap = np.abs(getattr(one, name) - getattr(other, name))[some] / getattr(one, f"{name}_error")[some]
        assert np.max(gap) < share
    assert np.sqrt(one.covariance[some, 0, 0]) == pytest.approx(np.sqrt(other.covariance[some, 0, 0]), rel=2e-3)
    # a star between two pixels may be fitted on the row beside: on pixels that are not all the same
    assert np.median(np.abs(one.chi2 - other.chi2)[some]) < 1e-3
    assert one.chi2[some] == pytest.approx(other.chi2[some], abs=0.1)


def test_they_are_the_same_as_if_they_were_fitted_with_the_others(field, monkeypatch):
    planes, x, y, flux = field
    found = solve_field(planes, PSF, x, y)
    pull = (found.flux - flux) / found.flux_error
    assert 0.8 < np.std(pull) < 1.2
    assert found.converged.all()
    assert not found.held.any()
    # neighbours everywhere: nobody is fitted by himself
    monkeypatch.setattr(psf_field, "pairs_within", lambda places, length: np.array([[0, n] for n in range(1, x.size)]))
    same(found, solve_field(planes, PSF, x, y))


def test_the_sky_is_followed(field):
    planes, x, y, _ = field
    wrong = planes[0], planes[1] + np.float32(5), planes[2], planes[3]
    seen = []

    def sky(model):
        seen.append(float(model.sum()))
        return planes[1], planes[2]

    found = solve_field(wrong, PSF, x, y, sky=sky)
    same(solve_field(planes, PSF, x, y), found)
    assert len(seen) == 2
    assert seen[1] > seen[0]


def test_positions_are_held_where_they_must_be(field):
    planes, x, y, flux = field
    free = np.arange(x.size) % 2 == 0
    found = solve_field(planes, PSF, np.append(x, 75.0), np.append(y, 75.0), options=FieldOptions())
    assert found.held[-1]  # nothing is there
    assert (found.x[-1], found.y[-1]) == (75.0, 75.0)
    assert abs(found.flux[-1]) < 5 * found.flux_error[-1]
    half = solve_field(planes, PSF, x, y, options=FieldOptions(free_position=free))
    assert np.array_equal(half.held, ~free)
    assert np.array_equal(half.x[~free], x[~free])
    assert (half.covariance[~free, 1, 1] == 0).all()
    narrow = solve_field(planes, PSF, x + 0.6, y, options=FieldOptions(limit=0.3))
    assert narrow.held[flux > 2e4].all()
    assert np.array_equal(narrow.x[narrow.held], x[narrow.held] + 0.6)


def test_a_star_without_pixels_has_no_flux(field):
    planes, x, y, _ = field
    flags = planes[3].copy()
    row, column = round(float(y[40])), round(float(x[40]))
    flags[row - 8 : row + 9, column - 8 : column + 9] = fl.BAD
    found = solve_field((*planes[:3], flags), PSF, x, y)
    assert np.isnan(found.flux[40])
    assert np.isnan(found.covariance[40]).all()
    assert found.flags[40] & fl.NO_DATA
    assert np.isfinite(np.delete(found.flux, 40)).all()


def test_correlated_noise_makes_their_errors_larger(field):
    planes, x, y, _ = field
    acf = np.array([[0.1, 0.3, 0.1], [0.3, 1.0, 0.3], [0.1, 0.3, 0.1]])
    white, known = solve_field(planes, PSF, x, y), solve_field(planes, PSF, x, y, acf=acf)
    assert np.array_equal(white.flux, known.flux)
    assert (known.flux_error > 1.2 * white.flux_error).all()


def test_from_where_they_are_it_is_a_short_way(field):
    planes, x, y, _ = field
    given = np.column_stack([x, y])[2:-2]
    bounds = given, np.full(len(given), 1.5), np.zeros(len(given), bool)
    once = fit_alone(planes, PSF, np.column_stack([np.zeros(len(given)), given]), bounds, FitOptions())
    again = fit_alone(planes, PSF, once.stars, bounds, FitOptions())
    error = np.sqrt(once.covariance[:, 0, 0])
    assert np.max(np.abs(again.stars[:, 0] - once.stars[:, 0]) / error) < 0.05
    assert not once.held.any()


def test_the_bits_are_the_same_for_any_threads(field):
    planes, x, y, _ = field
    made = []
    for count in (1, 2):
        set_threads(count)
        made.append(solve_field(planes, PSF, x, y, options=FieldOptions(free_sky=True)))
    set_threads(None)
    for one, other in zip(*made, strict=True):
        assert np.array_equal(one, other, equal_nan=True)
