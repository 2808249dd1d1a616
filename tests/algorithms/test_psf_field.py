"""All stars of a field together: at the Cramér-Rao bound alone, right errors in a crowd, any threads."""

import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms.jit import set_threads
from larun.algorithms.psf import moffat_psf
from larun.algorithms.psf_crowd import SearchOptions, solve_crowd
from larun.algorithms.psf_field import FieldOptions, solve_field
from larun.algorithms.psf_fit import fit_stars
from larun.algorithms.psf_groups import groups_of
from larun.errors import OptionError
from tests.algorithms.star_fields import grid

SKY, READ_NOISE = 200.0, 5.0


def noisy(psf, side, x, y, flux, rng):
    light = np.maximum(psf.draw((side, side), x, y, flux), 0)
    data = (rng.poisson(light + SKY) + rng.normal(0, READ_NOISE, light.shape)).astype(np.float32)
    flat = np.full_like(data, SKY)
    return data, flat, flat + np.float32(READ_NOISE**2), np.zeros(data.shape, np.uint32)


def crowd(seed, side=400, density=0.01, faintest=400.0, fwhm=3.0):
    rng = np.random.default_rng(seed)
    count = int(density * side**2)
    flux = 1 / (1 / faintest + rng.random(count) * (1 / 3e5 - 1 / faintest))
    x, y = rng.uniform(-0.4, side - 0.6, (2, count))
    psf = moffat_psf(fwhm, 3.0, radius=16)
    return noisy(psf, side, x, y, flux, rng), psf, x, y, flux, rng


def width(pulls):
    low, high = np.quantile(pulls, (0.1587, 0.8413))
    return (high - low) / 2


def test_acceptance_25_pulls_are_right_in_a_crowd():
    planes, psf, x, y, flux, rng = crowd(5)
    start = np.stack([x, y]) + rng.normal(0, 0.2, (2, x.size))
    found = solve_field(planes, psf, *start)
    inside = (np.minimum(x, y) > 6) & (np.maximum(x, y) < 393)
    pull = ((found.flux - flux) / found.flux_error)[inside]
    assert width(pull) <= 1.1
    assert np.mean(np.abs(pull) > 5) <= 0.015
    moved = inside & ~found.held
    place = (found.x - x)[moved] / found.x_error[moved]
    assert width(place) <= 1.1
    assert found.converged.mean() > 0.99


def test_stars_alone_are_fitted_as_by_themselves(rng):
    psf = moffat_psf(3.0, 3.0, radius=14)
    x, y = grid(rng, 300, 36)
    planes = noisy(psf, 300, x, y, np.geomspace(800, 1e5, x.size), rng)
    together = solve_field(planes, psf, x, y)
    alone = fit_stars(planes, psf, x, y)
    assert np.max(np.abs(together.flux - alone.flux) / alone.flux_error) < 0.1
    assert np.max(np.abs(together.x - alone.x) / alone.x_error) < 0.1
    assert np.allclose(together.flux_error, alone.flux_error, rtol=0.02)


@pytest.mark.parametrize("gap", [0.7, 1.1, 1.6])
def test_close_pairs_are_solved_jointly_with_their_covariance(gap):
    rng, psf, count = np.random.default_rng(8), moffat_psf(3.0, 3.0, radius=14), 144
    x, y = grid(rng, 384, 32)
    turn = rng.uniform(0, 2 * np.pi, count)
    both = np.concatenate([x, x + 3 * gap * np.cos(turn)]), np.concatenate([y, y + 3 * gap * np.sin(turn)])
    flux = np.concatenate([np.full(count, 3e4), np.full(count, 8e3)])
    planes = noisy(psf, 384, *both, flux, rng)
    found = solve_field(planes, psf, *(part + rng.normal(0, 0.1, part.size) for part in both))
    pull = (found.flux - flux) / found.flux_error
    for half in (pull[:count], pull[count:]):
        assert 0.85 < width(half) < 1.15  # 144 stars: 8 % is one sigma of the width
        assert abs(np.median(half)) < 0.4
    lone = fit_stars(planes, psf, x, y)
    larger = np.median(found.flux_error[:count]) / np.median(lone.flux_error)
    assert larger > (1.001 if gap < 1.5 else 0.95)  # what a neighbour costs


def test_flux_depends_on_neither_oversampling_nor_size():
    planes, psf, x, y, flux, _ = crowd(6, side=200)
    bright = np.argsort(-flux)[:40]
    reference = solve_field(planes, psf, x, y).flux[bright]
    for oversampling in (2, 3, 5):
        other = moffat_psf(3.0, 3.0, radius=16, oversampling=oversampling)
        assert np.median(np.abs(solve_field(planes, other, x, y).flux[bright] / reference - 1)) < 0.001
    small = solve_field(planes, psf, x, y, options=FieldOptions(reach=5)).flux[bright]
    assert np.median(np.abs(small / reference - 1)) < 0.001


def test_any_number_of_threads_gives_the_same_bits():
    planes, psf, x, y, _, _ = crowd(7, side=200)
    results = []
    for count in (1, 3):
        set_threads(count)
        results.append(solve_field(planes, psf, x, y))
    set_threads(None)
    one, two = results
    for name in ("flux", "x", "covariance", "model", "chi2"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()


def test_masked_cores_and_what_is_not_there(rng):
    psf = moffat_psf(3.0, 3.0, radius=14)
    x, y = np.array([30.0, 60.0, 90.0]), np.array([30.0, 60.0, 90.0])
    flux = np.array([5e4, 5e4, 5e4])
    data, level, noise, bits = noisy(psf, 120, x, y, flux, rng)
    data[59:62, 59:62], bits[59:62, 59:62] = 3000, fl.SATURATED
    found = solve_field((data, level, noise, bits), psf, [*x, np.nan, 500.0], [*y, 10.0, 10.0])
    assert np.all(np.abs(found.flux[:3] - flux) < 5 * found.flux_error[:3])
    assert found.flux_error[1] > 1.3 * found.flux_error[0]
    assert found.flags[1] & fl.SATURATED
    assert np.isnan(found.flux[3:]).all()
    assert (found.flags[3:] & fl.NO_DATA).all()
    assert found.group[3:].tolist() == [-1, -1]
    bits[25:36, 25:36] = fl.BAD
    gone = solve_field((data, level, noise, bits), psf, x, y)
    assert np.isnan(gone.flux[0])
    assert np.isfinite(gone.flux[1:]).all()


def test_a_fitted_sky_and_fixed_positions(rng):
    psf = moffat_psf(3.0, 3.0, radius=14)
    x, y = grid(rng, 200, 40)
    flux = np.full(x.size, 4e3)
    data, level, noise, bits = noisy(psf, 200, x, y, flux, rng)
    data += 7.0
    free = solve_field((data, level, noise, bits), psf, x, y, options=FieldOptions(free_sky=True))
    assert abs(np.median(free.sky) - 7) < 1
    fixed = solve_field((data - 7, level, noise, bits), psf, x, y, options=FieldOptions(free_position=False))
    assert fixed.held.all()
    assert np.array_equal(fixed.x, x)
    assert np.all(np.abs(fixed.flux - flux) < 5 * fixed.flux_error)
    empty = solve_field((data - 7, level, noise, bits), psf, x - 20, y, options=FieldOptions(free_position=False))
    assert np.all(np.abs(empty.flux) < 5 * empty.flux_error)  # and may be negative
    assert (empty.flux < 0).any()


def test_correlated_noise_enters_the_errors(rng):
    psf = moffat_psf(3.0, 3.0, radius=14)
    x, y = grid(rng, 900, 30)
    flux, kernel = np.full(x.size, 3e3), np.array([0.25, 0.5, 0.25])
    white = rng.normal(0, 40, (902, 902))
    rows = sum(k * white[:, i : i + 900] for i, k in enumerate(kernel))
    noise = sum(k * rows[i : i + 900] for i, k in enumerate(kernel))
    data = (psf.draw((900, 900), x, y, flux) + noise).astype(np.float32)
    along = np.convolve(kernel, kernel)
    acf = np.outer(along, along) / along[2] ** 2
    flat = np.zeros_like(data)
    variance = flat + np.float32(1600 * along[2] ** 2)
    options = FieldOptions(gain=1e9)
    found = solve_field((data, flat, variance, flat.astype(np.uint32)), psf, x, y, options=options, acf=acf)
    assert 0.95 < width((found.flux - flux) / found.flux_error) < 1.05
    assert 0.94 < width((found.x - x) / found.x_error) < 1.06
    wrong = solve_field((data, flat, variance, flat.astype(np.uint32)), psf, x, y, options=options)
    assert width((wrong.flux - flux) / wrong.flux_error) > 1.5


def test_stars_beneath_others_are_found():
    planes, psf, x, y, flux, _ = crowd(11, side=300, density=0.006, faintest=2000.0)
    bright = flux > 6000
    found = solve_crowd(planes, psf, np.column_stack([x, y])[bright], options=FieldOptions(), search=SearchOptions())
    assert found.given == bright.sum()
    new = np.column_stack([found.fits.x, found.fits.y])[found.given :]
    hidden = np.column_stack([x, y])[~bright]
    distance = np.hypot(*(new[:, None] - hidden[None]).transpose(2, 0, 1))
    assert np.mean(distance.min(axis=0) < 1.0) > 0.75
    assert np.mean(distance.min(axis=1) < 1.5) > 0.95


def test_what_rests_on_hardly_any_pixel_does_not_run_away(rng):
    psf = moffat_psf(3.0, 3.0, radius=14)
    x, y = np.array([40.0, 40.02, 46.0, 53.0]), np.array([40.0, 40.0, 41.0, 40.0])
    data, level, noise, bits = noisy(psf, 90, x[[0, 2, 3]], y[[0, 2, 3]], np.full(3, 3e6), rng)
    bits[data > 20000] = fl.SATURATED
    bits[34:46, 33:60] |= np.where(rng.random((12, 27)) < 0.8, fl.BAD, 0).astype(np.uint32)
    found = solve_field((data, level, noise, bits), psf, x, y)
    assert np.all(np.isfinite(found.model))
    assert np.max(np.abs(found.model)) < 1e8


def test_groups_are_divided_where_they_grow_too_large():
    x = np.arange(30.0)
    first, members = groups_of(x, np.zeros(30), 1.1, 100)
    assert first.tolist() == [0, 30]
    first, members = groups_of(x, np.zeros(30), 1.1, 10)
    assert np.diff(first).max() <= 10
    assert sorted(members.tolist()) == list(range(30))


def test_options_out_of_range_are_refused():
    planes, psf, x, y, _, _ = crowd(7, side=60)
    for wrong in ({"reach": 1}, {"reach": 40}, {"limit": -1.0}, {"gain": 0.0}, {"link": 9.0}, {"iterations": 1}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            solve_field(planes, psf, x, y, options=FieldOptions(**wrong))
    with pytest.raises(OptionError, match="flux has shape"):
        solve_field(planes, psf, x, y, flux=[1.0])
