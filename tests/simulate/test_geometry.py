"""Where stars lie, what the header's WCS says about it, and how frames move."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from larun.errors import OptionError
from larun.simulate import Camera, Distortion, Pointing, dithers, drift, place

CAMERA = Camera(shape=(800, 1000), overscan=16, pixel_scale=0.9)
SHAPE = CAMERA.shape
TWISTED = Distortion(
    a=[(2, 0, 3e-6), (1, 1, -2e-6), (0, 2, 1e-6), (3, 0, 8e-9), (1, 2, 8e-9), (0, 4, 1e-12)],
    b=[(2, 0, -1e-6), (0, 2, 4e-6), (0, 3, 8e-9), (2, 1, 8e-9)],
)
POINTINGS = {
    "still": Pointing(),
    "dithered": Pointing(offset=(12.3, -45.6)),
    "turned": Pointing(rotation=7.5),
    "barrel": Pointing(distortion=Distortion.radial(SHAPE, corner=6.0)),
    "pincushion": Pointing(offset=(30.0, 20.0), distortion=Distortion.radial(SHAPE, corner=-6.0)),
    "all": Pointing(offset=(-80.0, 33.3), rotation=-20.0, distortion=TWISTED),
}


def wcs_of(pointing, center=(210.0, 55.0)):
    return WCS(fits.Header(CAMERA.wcs_cards(center, pointing)))


@pytest.mark.parametrize("name", POINTINGS)
def test_the_wcs_finds_every_star_where_it_was_put(name, rng):
    pointing = POINTINGS[name]
    x, y = rng.uniform(50, 950, 200), rng.uniform(50, 750, 200)
    still = wcs_of(Pointing(distortion=pointing.distortion))
    sky = still.pixel_to_world_values(x, y)
    at = place(pointing, SHAPE, x, y)
    # the forward direction of a SIP is a plain polynomial: no iteration that could agree by accident
    ra, dec = wcs_of(pointing).pixel_to_world_values(*at)
    assert np.abs((ra - sky[0]) * np.cos(np.radians(sky[1]))).max() * 3600 / 0.9 < 1e-6
    assert np.abs(dec - sky[1]).max() * 3600 / 0.9 < 1e-6
    np.testing.assert_allclose(wcs_of(pointing).world_to_pixel_values(*sky), at, atol=1e-6)


def test_a_dither_alone_shifts_exactly():
    x, y = np.array([3.25, 700.5]), np.array([10.0, 99.125])
    found = place(Pointing(offset=(1.5, -2.25)), SHAPE, x, y)
    np.testing.assert_array_equal(found, (x + 1.5, y - 2.25))


def test_the_sky_turns_the_way_the_angle_says():
    x, y = place(Pointing(rotation=90.0), (101, 101), [60.0], [50.0])
    assert (x[0], y[0]) == pytest.approx((50.0, 60.0), abs=1e-12)


def test_sip_cards_are_of_second_order_and_higher_and_their_reference_pixel_is_where_the_reference_falls():
    cards = CAMERA.wcs_cards((10.0, 20.0), POINTINGS["all"])
    assert cards["CTYPE1"] == "RA---TAN-SIP"
    assert cards["A_ORDER"] == cards["B_ORDER"] == 4
    powers = [
        tuple(int(n) for n in key.split("_")[1:])
        for key in cards
        if key.startswith(("A_", "B_")) and "ORDER" not in key
    ]
    assert len(powers) > 15
    assert all(2 <= p + q <= 4 for p, q in powers)
    at = place(POINTINGS["all"], SHAPE, *place(Pointing(distortion=TWISTED), SHAPE, [499.5], [399.5]))
    assert (cards["CRPIX1"] - 1, cards["CRPIX2"] - 1) == pytest.approx((at[0][0], at[1][0]), abs=1e-9)
    assert "A_ORDER" not in CAMERA.wcs_cards((10.0, 20.0), POINTINGS["turned"])


def test_distortion_and_its_inverse(rng):
    u, v = rng.uniform(-500, 500, 1000), rng.uniform(-400, 400, 1000)
    there = TWISTED.undistorted(u, v)
    assert np.hypot(there[0] - u, there[1] - v).max() > 1
    np.testing.assert_allclose(TWISTED.distorted(*there), (u, v), atol=1e-9)
    again = Distortion.from_dict({"a": [list(t) for t in TWISTED.a], "b": [list(t) for t in TWISTED.b]})
    assert again == TWISTED


@pytest.mark.parametrize(
    "make",
    [
        lambda: Distortion(a=[(1, 0, 1e-3)]),
        lambda: Distortion(b=[(5, 5, 1e-30)]),
        lambda: Distortion(a=[(2, 0, np.nan)]),
        lambda: Distortion(a=[(2, 0, 1e-2)]).distorted(np.array([-500.0]), np.array([0.0])),
        lambda: Pointing(rotation=np.inf),
        lambda: dithers(3, size=-1.0),
        lambda: dithers(3, size=1.0, pattern="star"),
        lambda: dithers(3, size=1.0),
        lambda: drift([1.0, 0.0]),
        lambda: drift([0.0, 1.0], walk=1.0),
        lambda: drift([0.0, 1.0], rate=(np.nan, 0.0)),
    ],
)
def test_impossible_geometry_raises(make):
    with pytest.raises(OptionError):
        make()


@pytest.mark.parametrize("pattern", ["random", "grid", "spiral"])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 17])
def test_dithers_begin_at_rest_stay_within_their_size_and_differ(pattern, count):
    offsets = dithers(count, size=10.0, pattern=pattern, rng=np.random.default_rng(1))
    assert offsets.shape == (count, 2)
    assert np.abs(offsets).max(initial=0.0) <= 10 + 1e-12
    assert not offsets[:1].any()
    assert len({tuple(row) for row in offsets.round(6)[1:]}) == max(count - 1, 0)


def test_drift_is_steady_and_its_walk_grows_with_the_root_of_time():
    hours = np.array([0.0, 0.25, 1.0, 4.0])
    np.testing.assert_allclose(drift(hours, rate=(3.0, -2.0)), hours[:, None] * [3.0, -2.0])
    rng = np.random.default_rng(2)
    walks = np.array([drift(hours, walk=2.0, rng=rng) for _ in range(2000)])
    rms = walks.std(axis=(0, 2))
    assert rms == pytest.approx([0.0, 1.0, 2.0, 4.0], rel=0.06)  # own error 1.6 %
