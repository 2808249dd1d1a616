"""Series against closed forms, astropy and their own statistics."""

import numpy as np
import pytest

from larun.errors import OptionError
from larun.simulate import airmass, altitude, extinction, red_noise, sinusoid, sky_plane, transit


def test_red_noise_has_its_variance_and_its_memory_at_any_spacing():
    hours = np.array([0.0, 0.1, 0.5, 2.0])
    rng = np.random.default_rng(3)
    series = np.array([red_noise(hours, rms=0.3, timescale=0.5, rng=rng) for _ in range(20000)])
    expected = 0.09 * np.exp(-np.abs(hours[:, None] - hours[None, :]) / 0.5)
    np.testing.assert_allclose(np.cov(series.T), expected, atol=4 * 0.09 * np.sqrt(2 / 20000))
    white = red_noise(np.arange(5000.0), rms=1.0, timescale=0.0, rng=rng)
    assert abs(np.corrcoef(white[1:], white[:-1])[0, 1]) < 0.05
    same = [red_noise(hours, rms=1.0, timescale=1.0, rng=np.random.default_rng(4)) for _ in range(2)]
    np.testing.assert_array_equal(*same)


def test_altitude_agrees_with_astropy():
    from astropy import units
    from astropy.coordinates import AltAz, EarthLocation, HADec, SkyCoord
    from astropy.time import Time

    site = EarthLocation.from_geodetic(0, 37.3)
    when = Time("2024-03-14T18:00:00")
    hours = np.array([-5.0, -1.0, 0.5, 4.0])
    stars = SkyCoord(hours * units.hourangle, 18 * units.deg, frame=HADec(obstime=when, location=site))
    expected = stars.transform_to(AltAz(obstime=when, location=site)).alt.deg
    np.testing.assert_allclose(altitude(hours, declination=18.0, latitude=37.3), expected, atol=0.02)


def test_airmass_is_the_secant_high_up_and_finite_at_the_horizon():
    heights = np.array([30.0, 45.0, 60.0, 90.0])
    np.testing.assert_allclose(airmass(heights), 1 / np.sin(np.radians(heights)), rtol=4e-3)
    assert 36 < airmass(0.0) < 40
    np.testing.assert_allclose(-2.5 * np.log10(extinction([1.0, 2.5], coefficient=0.2)), [0.2, 0.5])


@pytest.mark.parametrize(("depth", "impact"), [(0.01, 0.0), (0.02, 0.6), (0.04, 1.1), (0.25, 0.3)])
def test_transit_is_the_covered_area_counted_on_a_grid(depth, impact):
    hours = np.linspace(-1.2, 1.2, 13)
    flux = transit(hours, middle=0.0, period=50.0, depth=depth, duration=2.0, impact=impact)
    side = np.linspace(-1, 1, 801)
    star = np.hypot(*np.meshgrid(side, side)) < 1
    ratio = np.sqrt(depth)
    speed = np.sqrt((1 + ratio) ** 2 - impact**2)  # stellar radii per hour: two hours from contact to contact
    for hour, value in zip(hours, flux, strict=True):
        planet = np.hypot(side[None, :] - speed * hour, side[:, None] - impact) < ratio
        assert value == pytest.approx(1 - (star & planet).sum() / star.sum(), abs=3e-4)
    assert flux[0] == flux[-1] == 1
    assert (np.diff(flux[:7]) <= 1e-12).all()


def test_transits_repeat():
    hours = np.linspace(0, 3, 50)
    options = {"middle": 1.0, "period": 10.0, "depth": 0.01, "duration": 2.0}
    np.testing.assert_allclose(transit(hours, **options), transit(hours + 30, **options), atol=1e-12)


def test_pulsation_has_its_amplitude_in_magnitudes():
    magnitudes = -2.5 * np.log10(sinusoid(np.linspace(0, 2, 2001), period=0.5, amplitude=0.3, phase=0.1))
    assert (magnitudes.max(), magnitudes.min()) == pytest.approx((0.3, -0.3), abs=1e-4)


def test_sky_plane_is_one_in_the_middle_and_changes_by_its_gradient():
    plane = sky_plane((101, 201), gradient=(0.3, -0.1))
    assert plane[50, 100] == pytest.approx(1.0)
    assert plane[50, 200] - plane[50, 0] == pytest.approx(0.3)
    assert plane[100, 100] - plane[0, 100] == pytest.approx(-0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: red_noise([1.0, 0.0], rms=1, timescale=1, rng=rng),
        lambda rng: red_noise([0.0], rms=-1, timescale=1, rng=rng),
        lambda rng: red_noise([0.0], rms=1, timescale=np.nan, rng=rng),
        lambda rng: altitude(0.0, declination=91.0, latitude=0.0),
        lambda rng: airmass([-1.0]),
        lambda rng: extinction(1.0, coefficient=-0.1),
        lambda rng: transit(0.0, middle=0, period=10, depth=0.5, duration=1),
        lambda rng: transit(0.0, middle=0, period=10, depth=0.01, duration=6),
        lambda rng: transit(0.0, middle=0, period=10, depth=0.01, duration=1, impact=1.2),
        lambda rng: sinusoid(0.0, period=0, amplitude=1),
        lambda rng: sky_plane((5, 5), gradient=(1.5, 0.5)),
    ],
)
def test_impossible_series_raise(make, rng):
    with pytest.raises(OptionError):
        make(rng)
