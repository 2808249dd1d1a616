"""Curves of growth and aperture corrections against the light of a known star."""

import math

import numpy as np
import pytest

from larun.algorithms.aperture import photometry
from larun.algorithms.growth import aperture_correction, curve_of_growth, growth_stars
from larun.errors import CatalogError, OptionError
from larun.flags import SATURATED

FWHM, BETA, SKY, READ_NOISE = 3.5, 3.0, 200.0, 8.0
ALPHA = FWHM / (2 * math.sqrt(2 ** (1 / BETA) - 1))
RADII = np.array([2.0, 3.0, 4.0, 6.0, 9.0, 14.0])
SIDE = 33


def enclosed(r):
    """Light of a Moffat star in a circle drawn on pixels, which smooth star and circle by one pixel each.

    The bare curve is 1 − (1 + r²/α²)^(1 − β); two pixels have a variance of 1/6 per axis, which adds
    1/12 ∮ dI/dr = 2π r I′(r) / 12.
    """
    base = 1 + r**2 / ALPHA**2
    slope = -2 * BETA * r / ALPHA**2 * (BETA - 1) / (math.pi * ALPHA**2) * base ** (-BETA - 1)
    return 1 - base ** (1 - BETA) + 2 * math.pi * r * slope / 12


@pytest.fixture(scope="module")
def field():
    """1600 stars of 20 000 to 200 000 electrons, one in each cell: noise-free image, positions, fluxes."""
    rng = np.random.default_rng(1)
    cells = 40
    flux = 10 ** rng.uniform(4.3, 5.3, (cells, cells))
    dx, dy = rng.uniform(-0.5, 0.5, (2, cells, cells))
    nodes, weights = np.polynomial.legendre.leggauss(3)
    pixel = np.arange(SIDE) - SIDE // 2
    image = np.zeros((cells, SIDE, cells, SIDE))
    for y, wy in zip(nodes / 2, weights / 2, strict=True):
        for x, wx in zip(nodes / 2, weights / 2, strict=True):
            y2 = ((pixel + y - dy[..., None]) ** 2)[:, :, :, None]
            x2 = ((pixel + x - dx[..., None]) ** 2)[:, :, None, :]
            base = 1 + (y2 + x2) / ALPHA**2
            image += wy * wx * (flux[..., None, None] / base**3).transpose(0, 2, 1, 3)
    image *= (BETA - 1) / (math.pi * ALPHA**2)
    centre = np.arange(cells) * SIDE + SIDE // 2
    return (
        image.reshape(cells * SIDE, cells * SIDE),
        (dx + centre).ravel(),
        (dy + centre[:, None]).ravel(),
        flux.ravel(),
    )


@pytest.fixture(scope="module")
def measured(field):
    """The same stars with noise, the sky level known."""
    image, x, y, _ = field
    rng = np.random.default_rng(2)
    data = rng.poisson(image + SKY) + rng.normal(0, READ_NOISE, image.shape)
    variance = (np.maximum(data, 0) + READ_NOISE**2).astype(np.float32)
    flags = np.zeros(data.shape, np.uint32)
    return photometry((data - SKY).astype(np.float32), variance, flags, x, y, RADII)


def test_the_curve_is_the_light_of_a_moffat_star(field, measured):
    image, x, y, _ = field
    found = curve_of_growth(measured.flux, measured.flux_error, RADII)
    expected = enclosed(RADII) / enclosed(RADII[-1])
    np.testing.assert_allclose(found.fraction, expected, atol=2e-3)
    assert found.fraction[-1] == 1
    assert found.scatter[-1] == 0
    assert np.all(np.diff(found.fraction) > 0)
    assert 1550 <= found.stars <= 1600
    # the scatter is that of noise and pixel phase together
    clean = photometry(image.astype(np.float32), None, np.zeros(image.shape, np.uint32), x, y, RADII).flux
    noise = measured.flux / measured.flux[:, -1:] - clean / clean[:, -1:]
    phase = clean / clean[:, -1:]
    total = np.hypot(noise.std(axis=0), phase.std(axis=0))
    assert np.all(found.scatter[:-1] < 1.05 * total[:-1])
    assert np.all(found.scatter[:-1] > 0.5 * total[:-1])


@pytest.mark.parametrize("group", [8, 40])
def test_the_correction_is_right_and_its_error_is_the_scatter_of_corrections(field, measured, group):
    image, x, y, _ = field
    clean = photometry(image.astype(np.float32), None, np.zeros(image.shape, np.uint32), x, y, RADII).flux
    truth = 2.5 * np.log10(np.mean(clean / clean[:, -1:], axis=0))
    parts = np.random.default_rng(3).permutation(len(x)).reshape(-1, group)
    found = [aperture_correction(measured.flux[p], measured.flux_error[p], RADII) for p in parts]
    offset = np.array([f.correction for f in found])[:, :-1] - truth[:-1]
    error = np.array([f.error for f in found])[:, :-1]
    assert all(f.correction[-1] == 0 and f.error[-1] == 0 for f in found)
    assert np.all(np.abs(offset.mean(axis=0)) < 4 * offset.std(axis=0) / math.sqrt(len(parts)))
    # own error of the ratio: 3.5 % a radius for groups of 8, 11 % for 40; radii share their stars
    ratio = np.sqrt(np.mean(error**2, axis=0)) / offset.std(axis=0)
    np.testing.assert_allclose(ratio, 1, atol=0.15 if group == 8 else 0.35)
    assert np.mean(ratio) == pytest.approx(1, abs=0.1 if group == 8 else 0.2)


def test_corrected_magnitudes_are_those_of_the_largest_aperture(field, measured):
    flux = field[3]
    correction = aperture_correction(measured.flux, measured.flux_error, RADII)
    total = -2.5 * np.log10(flux * enclosed(RADII[-1]))
    offset = np.median(measured.magnitude + correction.correction - total[:, None], axis=0)
    np.testing.assert_allclose(offset, 0, atol=1.5e-3)
    assert np.all(correction.error < 1e-3)
    assert np.all(np.diff(correction.correction) > 0)


def test_companions_and_rays_nobody_flagged_are_clipped(measured):
    clean = aperture_correction(measured.flux[:60], measured.flux_error[:60], RADII)
    flux = measured.flux[:60].copy()
    flux[:6, 3:] *= 1.3  # a companion between 4 and 6 px
    flux[6:9, :] += 20_000.0  # a ray in the core
    dirty = aperture_correction(flux, measured.flux_error[:60], RADII)
    assert dirty.stars <= clean.stars - 8
    np.testing.assert_allclose(dirty.correction, clean.correction, atol=3 * clean.error.max())
    curve = curve_of_growth(flux, measured.flux_error[:60], RADII)
    assert curve.stars == dirty.stars


def test_faint_stars_among_the_bright_cost_nothing(measured):
    clean = aperture_correction(measured.flux[:60], measured.flux_error[:60], RADII)
    faint = 0.005 * measured.flux[:40] + np.random.default_rng(4).normal(0, 50, (40, 6)).cumsum(axis=1)
    noise = np.broadcast_to(50 * np.sqrt(np.arange(1, 7)), faint.shape)
    flux, error = np.vstack([measured.flux[:60], faint]), np.vstack([measured.flux_error[:60], noise])
    mixed = aperture_correction(flux, error, RADII)
    np.testing.assert_allclose(mixed.correction, clean.correction, atol=3 * clean.error.max())
    assert np.all(mixed.error[:-1] < 1.3 * clean.error[:-1])


def test_order_of_radii_and_of_stars_changes_nothing_but_the_order(measured):
    flux, error = measured.flux[:50], measured.flux_error[:50]
    straight, turned = (
        aperture_correction(flux, error, RADII),
        aperture_correction(flux[:, ::-1], error[:, ::-1], RADII[::-1]),
    )
    assert np.array_equal(straight.correction, turned.correction[::-1])
    assert np.array_equal(straight.error, turned.error[::-1])
    usable = np.zeros(50, bool)
    usable[10:30] = True
    some = aperture_correction(flux, error, RADII, usable=usable)
    alone = aperture_correction(flux[10:30], error[10:30], RADII)
    assert all(np.array_equal(a, b) for a, b in zip(some, alone, strict=True))


def test_stars_without_a_positive_finite_flux_are_never_used(measured):
    flux, error = measured.flux[:40].copy(), measured.flux_error[:40].copy()
    flux[0, 2], flux[1, 5], flux[2, 0], error[3, 1], error[4, 4] = np.nan, -1, np.inf, np.nan, 0
    found = aperture_correction(flux, error, RADII)
    alone = aperture_correction(flux[5:], error[5:], RADII)
    assert np.array_equal(found.correction, alone.correction)
    assert np.isfinite(found.error).all()


def test_growth_stars_are_bright_unflagged_and_alone():
    flux = np.outer([1e5, 1e5, 1e5, 1e3, 900.0, 1e5, 1e5, np.nan, 1e5, 1e5], [0.6, 1.0])
    error = np.full(flux.shape, 300.0)
    flags = np.zeros(flux.shape, np.uint32)
    flags[1, 1] = SATURATED
    #             alone  flagged  and its faint  faint  harmless  blend of two  no flux, near the last; alone
    x = np.array([50.0, 150.0, 250.0, 260.0, 350.0, 450.0, 460.0, 550.0, 555.0, 357.0])
    y = np.full(10, 50.0)
    good = growth_stars(flux, error, flags, x, y, separation=20)
    #  a neighbour of 1 % is one, of 0.9 % is none (index 9 beside 4); the NaN star at 7 spoils nobody
    assert good.tolist() == [True, False, True, False, False, False, False, False, True, True]
    strict = growth_stars(flux, error, flags, x, y, separation=20, contamination=0.005)
    assert strict.tolist() == [True, False, False, False, False, False, False, False, True, False]
    wide = growth_stars(flux, error, flags, x, y, separation=5)
    assert wide.tolist() == [True, False, True, False, False, True, True, False, True, True]
    assert growth_stars(flux, error, flags, x, y, separation=5, snr=1.5)[4]


def test_options_that_make_no_sense_are_named(measured):
    flux, error = measured.flux[:10], measured.flux_error[:10]
    flags, x = np.zeros(flux.shape, np.uint32), np.arange(10.0)
    for call, message in [
        (lambda: curve_of_growth(flux, error[:5], RADII), "fluxes and errors"),
        (lambda: curve_of_growth(flux, error, RADII[:3]), "radii"),
        (lambda: curve_of_growth(flux, error, -RADII), "radii"),
        (lambda: curve_of_growth(flux, error, RADII, usable=[True]), "usable"),
        (lambda: growth_stars(flux, error, flags[:3], x, x, separation=5), "flags"),
        (lambda: growth_stars(flux, error, flags, x, x, separation=0), "separation = 0"),
    ]:
        with pytest.raises(OptionError, match=message):
            call()
    with pytest.raises(CatalogError, match="2 of 2 stars"):
        aperture_correction(flux[:2], error[:2], RADII)
    with pytest.raises(CatalogError, match="0 of 0 stars"):
        curve_of_growth(flux * np.nan, error, RADII)
