"""Profiles over pixels against GalSim, against themselves, and against what they promise."""

import math

import attrs
import numpy as np
import pytest

from larun.errors import OptionError
from larun.simulate import (
    Donut,
    Function,
    Gaussian,
    Moffat,
    Stretched,
    Trailed,
    Varying,
    render,
    render_profile,
    shear,
)

PLACE = (20.3, 19.8)


def star(profile, size=41, **options):
    """One star of unit flux off the middle of its pixel."""
    middle = size // 2
    return render_profile((size, size), [middle + 0.3], [middle - 0.2], [1.0], profile=profile, **options)


def galsim_star(profile, size=41):
    return profile.shift(0.3, -0.2).drawImage(nx=size, ny=size, scale=1, dtype=float).array


@pytest.fixture(scope="module")
def galsim():
    return pytest.importorskip("galsim")


@pytest.fixture(scope="module")
def fine(galsim):
    return galsim.GSParams(
        folding_threshold=2e-5, maxk_threshold=2e-5, kvalue_accuracy=1e-6, xvalue_accuracy=1e-6, maximum_fft_size=20000
    )


@pytest.mark.parametrize(("g1", "g2"), [(0.1, 0.0), (-0.05, 0.2), (0.0, -0.3)])
@pytest.mark.parametrize("beta", [2.5, 4.765, None])
def test_elliptical_stars_agree_with_galsim(galsim, fine, beta, g1, g2):
    ours = star(Stretched(Gaussian(3.0) if beta is None else Moffat(3.0, beta), g1=g1, g2=g2))
    options = {"fwhm": 3.0, "gsparams": fine}
    base = galsim.Gaussian(**options) if beta is None else galsim.Moffat(beta=beta, **options)
    theirs = galsim_star(base.shear(g1=g1, g2=g2))
    assert np.abs(ours - theirs).max() < 2e-5  # of the flux; GalSim folds Moffat wings


@pytest.mark.parametrize("blur", [1.5, 3.0])
@pytest.mark.parametrize("obscuration", [0.0, 0.4])
def test_donuts_agree_with_galsim(galsim, fine, blur, obscuration):
    outer = 8.0
    hole = obscuration**2
    disc = galsim.TopHat(outer, flux=1 / (1 - hole), gsparams=fine)
    ring = disc - galsim.TopHat(outer * obscuration, flux=hole / (1 - hole), gsparams=fine) if obscuration else disc
    theirs = galsim_star(galsim.Convolve(ring, galsim.Gaussian(fwhm=blur, gsparams=fine), gsparams=fine))
    ours = star(Donut(outer, obscuration, Gaussian(blur)))
    assert np.abs(ours - theirs).max() < 2e-5
    assert ours.max() < 0.008  # wide: no pixel holds a per cent


def test_far_from_focus_the_donut_agrees_with_galsims_optics(galsim):
    # three waves of defocus at 1 m and 600 nm: at 0.25 arcsec a pixel a ring of 20 pixels
    waves, diameter, wavelength, scale = 3.0, 1.0, 600e-9, 0.25
    optics = galsim.OpticalPSF(
        lam=wavelength * 1e9, diam=diameter, defocus=waves, obscuration=0.4, pad_factor=3.0, suppress_warning=True
    )
    theirs = galsim.Convolve(optics, galsim.Gaussian(fwhm=4.0 * scale)).drawImage(nx=101, ny=101, scale=scale).array
    # rays go where the wavefront √3 (2ρ² - 1) λ slopes: 4 √3 waves · λ over the aperture's radius, at its rim
    outer = 4 * math.sqrt(3) * waves * wavelength / (diameter / 2) * 206264.8 / scale
    ours = render_profile((101, 101), [50.0], [50.0], [1.0], profile=Donut(outer, 0.4, Gaussian(4.0)))
    y, x = np.indices((101, 101)) - 50
    radius = [(image * np.hypot(x, y)).sum() / image.sum() for image in (ours, theirs)]
    assert radius[0] == pytest.approx(radius[1], rel=0.02)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99
    assert ours[50, 50] < 0.5 * ours.max()


@pytest.mark.parametrize(("dx", "dy"), [(4.0, 0.0), (-2.0, 5.0), (0.5, 0.1), (30.0, 12.0)])
def test_a_trail_is_the_mean_of_the_places_it_went_through(dx, dy):
    at = (np.arange(400) + 0.5) / 400 - 0.5
    expected = render((61, 61), 30.3 + at * dx, 29.8 + at * dy, np.full(400, 1 / 400), fwhm=2.0, beta=None)
    made = star(Trailed(Gaussian(2.0), dx=dx, dy=dy), size=61)
    assert np.abs(made - expected).max() < 1.5e-5


PROFILES = {
    "donut": Donut(5.0, 0.3, Gaussian(1.2)),
    "moffat donut": Donut(5.0, 0.3, Moffat(2.0, 3.0)),
    "ellipse": Stretched(Moffat(2.5, 4.0), g1=0.2, g2=-0.1),
    "small ellipse": Stretched(Gaussian(1.0), g1=0.3),
    "trail": Trailed(Moffat(2.0, 3.5), dx=5.0, dy=2.0),
    "large": Stretched(Gaussian(2.0), size=2.5),
    "function": Function(lambda dx, dy: np.exp(-np.hypot(dx, dy) / 2) / (8 * np.pi), reach=40.0),
}


@pytest.mark.parametrize("name", PROFILES)
def test_flux_is_conserved(name):
    for flux in (100.0, 1e6):
        image = render_profile((401, 401), [200.4], [199.7], [flux], profile=PROFILES[name])
        assert image.sum() == pytest.approx(flux, rel=1.5e-4)


@pytest.mark.parametrize("name", sorted(set(PROFILES) - {"small ellipse"}))  # too few pixels to tell
def test_the_centroid_is_where_the_star_was_put(name):
    image = render_profile((201, 201), [99.6], [101.3], [1e6], profile=PROFILES[name])
    y, x = np.indices(image.shape)
    assert (image * x).sum() / image.sum() == pytest.approx(99.6, abs=3e-3)
    assert (image * y).sum() / image.sum() == pytest.approx(101.3, abs=3e-3)


@pytest.mark.parametrize("name", PROFILES)
def test_every_pixel_is_as_accurate_as_was_asked(name):
    profile = PROFILES[name]
    nodes, weights = np.polynomial.legendre.leggauss(31)
    fine = (np.arange(41)[:, None] + 0.5 * nodes).ravel()
    values = profile.density(fine[None, :] - 20.3, fine[:, None] - 19.8).reshape(41, 31, 41, 31)
    expected = np.einsum("iajb,a,b->ij", values, weights / 2, weights / 2)
    for accuracy in (1e-3, 1e-5, 1e-7) if name != "function" else (1e-3, 1e-5):  # it has a cusp
        assert np.abs(star(profile, accuracy=accuracy) - expected).max() < accuracy


def test_the_radius_holds_what_it_says():
    for profile in PROFILES.values():
        radius = profile.radius(1e-2)
        side = 2 * math.ceil(radius) + 11
        at = (np.arange(4 * side) + 0.5) / 4 - side / 2
        dx, dy = np.meshgrid(at, at)
        inside = np.hypot(dx, dy) < radius
        assert profile.density(dx, dy)[inside].sum() / 16 > 0.985


def test_many_stars_are_the_sum_of_single_ones_and_edges_only_cut():
    rng = np.random.default_rng(5)
    x, y, flux = rng.uniform(-30, 90, 30), rng.uniform(-30, 70, 30), 10 ** rng.uniform(2, 6, 30)
    profile = PROFILES["ellipse"]
    together = render_profile((40, 60), x, y, flux, profile=profile)
    alone = sum(render_profile((40, 60), [a], [b], [c], profile=profile) for a, b, c in zip(x, y, flux, strict=True))
    np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-9)
    wide = render_profile((140, 160), x + 50, y + 50, flux, profile=profile)
    np.testing.assert_allclose(together, wide[50:90, 50:110], rtol=1e-12, atol=1e-9)


def test_a_varying_profile_is_at_every_star_what_it_is_there():
    field = Varying(
        Moffat(2.5, 3.5),
        shape=(200, 300),
        size=[(0, 0, 1.0), (2, 0, 0.3), (0, 2, 0.2)],
        g1=[(1, 0, 0.1)],
        g2=[(1, 1, -0.15)],
    )
    x, y, flux = np.array([10.2, 150.0, 290.7]), np.array([20.1, 99.5, 180.4]), np.array([1e4, 2e4, 3e4])
    image = render_profile((200, 300), x, y, flux, profile=field)
    single = sum(
        render_profile((200, 300), [a], [b], [c], profile=field.at(a, b)) for a, b, c in zip(x, y, flux, strict=True)
    )
    assert np.abs(image - single).max() < 1e-5 * 3e4
    corner = field.at(299.0, 199.0)
    assert (corner.size, corner.g1, corner.g2) == pytest.approx((1.5, 0.1, -0.15))
    assert field.at(400.0, 300.0) == corner
    assert field.at(149.5, 99.5) == Stretched(Moffat(2.5, 3.5))


def test_moments_of_a_sheared_gaussian_are_its_axes():
    g1, g2 = shear(0.6, 30.0)
    image = star(Stretched(Gaussian(4.0), size=1.2, g1=g1, g2=g2), size=81)
    y, x = np.indices(image.shape)
    dx, dy = x - 40.3, y - 39.8
    xx, yy, xy = ((image * a * b).sum() for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    values, vectors = np.linalg.eigh([[xx - 1 / 12, xy], [xy, yy - 1 / 12]])  # without the pixel
    sigma = 1.2 * Gaussian(4.0).sigma
    assert np.sqrt(values) == pytest.approx([sigma * 0.6**0.5, sigma * 0.6**-0.5], rel=1e-3)
    assert math.degrees(math.atan2(vectors[1, 1], vectors[0, 1])) % 180 == pytest.approx(30.0, abs=0.05)


def test_a_round_profile_is_what_render_draws():
    for profile, beta in ((Moffat(2.5, 3.0), 3.0), (Gaussian(2.5), None)):
        expected = render((41, 41), *([v] for v in PLACE), [1.0], fwhm=2.5, beta=beta)
        np.testing.assert_array_equal(star(profile), expected)
        np.testing.assert_allclose(star(profile, accuracy=1e-7), expected, atol=1e-5)


class Sharp:
    def density(self, dx, dy):
        return np.where(np.hypot(dx, dy) < 5, 1 / (25 * np.pi), 0.0)

    def radius(self, outside):
        return 5.0


class Broken:
    def density(self, dx, dy):
        return np.full(np.broadcast_shapes(dx.shape, dy.shape), -1.0)

    def radius(self, outside):
        return 5.0


class Shapeless(Broken):
    def density(self, dx, dy):
        return np.ones(3)


@pytest.mark.parametrize(
    ("profile", "message"), [(Sharp(), "much finer"), (Broken(), "at least 0"), (Shapeless(), "gave the shape")]
)
def test_profiles_that_cannot_be_drawn_say_why(profile, message):
    with pytest.raises(OptionError, match=message):
        star(profile, accuracy=1e-7)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Moffat(0.4),
        lambda: Moffat(3.0, 1.0),
        lambda: Gaussian(math.inf),
        lambda: Donut(0.0),
        lambda: Donut(5.0, 1.0),
        lambda: Stretched(Gaussian(2.0), size=0.0),
        lambda: Stretched(Gaussian(2.0), g1=0.8, g2=0.8),
        lambda: Trailed(Gaussian(2.0), dx=math.nan),
        lambda: Function(lambda dx, dy: dx * 0 + dy * 0 + 1.0, reach=10.0),
        lambda: Function(lambda dx, dy: np.nan, reach=10.0),
        lambda: Function(lambda dx, dy: dx + dy, reach=0.0),
        lambda: Varying(Gaussian(2.0), shape=(10, 10), size=[(0, 0, 1.0), (1, 0, -1.5)]),
        lambda: Varying(Gaussian(2.0), shape=(10, 10), g1=[(-1, 0, 0.1)]),
        lambda: shear(0.0, 10.0),
        lambda: render_profile((9, 9), [1.0], [1.0], [1.0], profile=PROFILES["trail"], accuracy=0.1),
        lambda: render_profile((9, 9), [1.0], [1.0], [math.nan], profile=PROFILES["trail"]),
    ],
)
def test_impossible_profiles_raise(make):
    with pytest.raises(OptionError):
        make()


def test_profiles_are_values():
    assert Donut(5.0) == Donut(5.0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Moffat(3.0).fwhm = 2.0
