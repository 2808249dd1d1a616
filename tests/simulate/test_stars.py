"""Rendered stars against GalSim, quadrature and their own flux."""

import math

import numpy as np
import pytest

from larun.errors import OptionError
from larun.simulate import draw_stars, render


@pytest.mark.parametrize("beta", [2.5, 3.0, 4.765, None])
@pytest.mark.parametrize("fwhm", [1.0, 1.5, 2.5, 4.0])
def test_render_agrees_with_galsim(fwhm, beta):
    galsim = pytest.importorskip("galsim")
    fine = galsim.GSParams(folding_threshold=1e-4, maxk_threshold=1e-4, maximum_fft_size=16384)
    options = {"fwhm": fwhm, "flux": 1e4, "gsparams": fine}
    profile = galsim.Gaussian(**options) if beta is None else galsim.Moffat(beta=beta, **options)
    expected = profile.shift(0.3, -0.2).drawImage(nx=41, ny=41, scale=1).array
    image = render((41, 41), [20.3], [19.8], [1e4], fwhm=fwhm, beta=beta)
    assert np.abs(image - expected).max() < 1e-3 * expected.max()


@pytest.mark.parametrize("fwhm", [0.5, 0.8, 1.5, 2.4, 2.6, 5.0])
@pytest.mark.parametrize("beta", [1.8, 3.0, 4.765])
def test_render_agrees_with_dense_quadrature(fwhm, beta):
    nodes, weights = np.polynomial.legendre.leggauss(24)
    side = 25
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
    fine = (np.arange(side)[:, None] + 0.5 * nodes).ravel()
    x, y = 12.37, 11.81
    values = (1 + ((fine[:, None] - y) ** 2 + (fine[None, :] - x) ** 2) / alpha**2) ** -beta
    mean = np.einsum("iajb,a,b->ij", values.reshape(side, 24, side, 24), weights / 2, weights / 2)
    expected = mean * (beta - 1) / (math.pi * alpha**2)
    image = render((side, side), [x], [y], [1e6], fwhm=fwhm, beta=beta) / 1e6
    inner = (slice(4, -4), slice(4, -4))  # the stamp of a narrow star ends before the image does
    assert np.abs(image - expected)[inner].max() < 1e-5
    if fwhm > 2:
        np.testing.assert_allclose(image[inner], expected[inner], rtol=5e-4)


@pytest.mark.parametrize(("beta", "size"), [(3.0, 301), (2.5, 901), (None, 101)])
def test_flux_is_conserved(beta, size):
    middle = size / 2
    for flux in (100.0, 1e6):
        image = render((size, size), [middle], [middle + 0.2], [flux], fwhm=3.0, beta=beta)
        assert image.sum() == pytest.approx(flux, rel=1.2e-4)
        assert image.sum() < flux * (1 + 1e-9)


def test_many_stars_are_the_sum_of_single_ones_and_edges_only_cut():
    rng = np.random.default_rng(5)
    x, y = rng.uniform(-30, 90, 40), rng.uniform(-30, 70, 40)
    flux = 10 ** rng.uniform(2, 6, 40)
    together = render((40, 60), x, y, flux, fwhm=2.5)
    alone = sum(render((40, 60), [a], [b], [c], fwhm=2.5) for a, b, c in zip(x, y, flux, strict=True))
    np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-9)
    wide = render((140, 160), x + 50, y + 50, flux, fwhm=2.5)
    np.testing.assert_allclose(together, wide[50:90, 50:110], rtol=1e-12, atol=1e-9)


def test_centroid_is_where_the_star_was_put():
    image = render((201, 201), [99.6], [101.3], [1.0], fwhm=3.0, beta=4.0)
    y, x = np.indices(image.shape)
    assert (image * x).sum() / image.sum() == pytest.approx(99.6, abs=2e-3)
    assert (image * y).sum() / image.sum() == pytest.approx(101.3, abs=2e-3)


def test_power_law_has_the_slope_that_was_asked_for():
    field = draw_stars((1000, 800), count=20000, rng=np.random.default_rng(2), faintest=10, brightest=1e9, slope=0.75)
    estimate = 1 / np.log(field.flux / 10).mean()  # maximum likelihood; the upper limit matters by 1e-6
    assert estimate == pytest.approx(0.75, rel=0.03)  # its own error is 0.7 %
    assert field.flux.min() >= 10
    assert field.flux.max() <= 1e9


def test_margin_places_stars_outside():
    field = draw_stars((100, 200), count=4000, rng=np.random.default_rng(3), faintest=1, brightest=2, margin=20)
    assert -20.5 <= field.x.min() < -15
    assert 214 < field.x.max() <= 219.5
    assert -20.5 <= field.y.min() < -15
    assert 114 < field.y.max() <= 119.5


@pytest.mark.parametrize(
    "values",
    [
        {"fwhm": 0.4},
        {"fwhm": math.nan},
        {"beta": 1.0},
        {"flux": [math.nan]},
        {"x": [1.0, 2.0]},
    ],
)
def test_impossible_stars_raise(values):
    options = {"x": [5.0], "y": [5.0], "flux": [1.0], "fwhm": 2.0, **values}
    with pytest.raises(OptionError):
        render((10, 10), options.pop("x"), options.pop("y"), options.pop("flux"), **options)


@pytest.mark.parametrize("values", [{"count": -1}, {"faintest": 0}, {"brightest": 5}, {"slope": 0}])
def test_impossible_fields_raise(values):
    options = {"count": 3, "faintest": 10, "brightest": 100, "rng": np.random.default_rng(1), **values}
    with pytest.raises(OptionError):
        draw_stars((10, 10), **options)
