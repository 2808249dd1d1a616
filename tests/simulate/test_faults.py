"""Each fault is what it says it is."""

import numpy as np
import pytest

from larun.detector import Amplifier, Detector, Section
from larun.errors import OptionError
from larun.simulate import (
    Trail,
    amplifier_glow,
    bad_columns,
    bayer,
    crosstalk,
    fringes,
    light_leak,
    pickup,
    shutter_delay,
    smooth_field,
    telegraph_pixels,
    trail_light,
    trails_light,
)

SHAPE = (120, 160)


def test_smooth_fields_are_smooth_and_normal(rng):
    field = smooth_field(SHAPE, rng=rng)
    assert field.mean() == pytest.approx(0, abs=1e-12)
    assert field.std() == pytest.approx(1)
    assert np.abs(np.diff(field, axis=0)).max() < 0.15
    assert (smooth_field(SHAPE, rng=rng) != field).any()


def test_fringes_have_mean_zero_and_about_as_many_as_asked(rng):
    pattern = fringes((300, 400), rng=rng, count=8.0)
    assert pattern.mean() == pytest.approx(0, abs=1e-12)
    assert 0.9 < np.ptp(pattern) / 2 <= 1.0
    turns = [np.count_nonzero(np.diff(np.sign(line))) / 2 for line in (*pattern[::50], *pattern.T[::50])]
    assert 1 < max(turns) < 16


@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 90.0, 137.0])
def test_a_trail_has_its_light_per_pixel_of_length_at_any_angle(angle):
    trail = Trail(x=79.7, y=60.2, angle=angle, width=3.0, brightness=700.0)
    light, mask = trail_light(SHAPE, trail)
    y, x = np.indices(SHAPE)
    direction = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along = (x - 79.7) * direction[0] + (y - 60.2) * direction[1]
    away = (y - 60.2) * direction[0] - (x - 79.7) * direction[1]
    middle = np.abs(along) < 30.25
    assert light[middle].sum() == pytest.approx(700 * 60.5, rel=0.01)  # the ends cut pixels
    assert (mask == (np.abs(away) < np.abs(away)[mask].max() + 1e-9)).all()
    assert light[~mask].max() <= 0.0101 * light.max() * 1.1
    both, where = trails_light(SHAPE, [trail, trail])
    np.testing.assert_allclose(both, 2 * light)
    assert (where == mask).all()
    assert not trails_light(SHAPE, [])[1].any()


@pytest.mark.parametrize("angle", [0.0, 20.0, 45.0])
def test_a_trail_is_integrated_over_pixels(angle):
    light, _ = trail_light((41, 41), Trail(x=20.3, y=20.1, angle=angle, width=2.5, brightness=1.0))
    sigma = 2.5 / np.sqrt(8 * np.log(2))
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    fine = (np.arange(41)[:, None] + (np.arange(15) + 0.5) / 15 - 0.5).ravel()
    away = (fine[:, None] - 20.1) * c - (fine[None, :] - 20.3) * s
    values = np.exp(-(away**2) / (2 * sigma**2)) / np.sqrt(2 * np.pi) / sigma
    mean = values.reshape(41, 15, 41, 15).mean(axis=(1, 3))
    assert np.abs(light - mean).max() < 4e-3 * mean.max()


def test_telegraph_pixels_are_up_half_of_the_time(rng):
    found = telegraph_pixels(SHAPE, fraction=0.01, step=(40.0, 400.0), rng=rng)
    assert len(found.pixels) == len(set(found.pixels.tolist())) == 192
    frames = np.array([found.electrons(SHAPE, rng) for _ in range(400)])
    up = frames.reshape(400, -1)[:, found.pixels] > 0
    assert up.mean() == pytest.approx(0.5, abs=0.01)
    assert set(np.unique(frames.reshape(400, -1)[:, found.pixels[0]])) == {0.0, found.step[0]}
    assert np.count_nonzero(frames.any(axis=0)) == 192


def test_bad_columns_begin_somewhere_and_go_to_the_top(rng):
    factor, mask = bad_columns(SHAPE, count=4, rng=rng, response=0.3)
    columns = np.flatnonzero(mask.any(axis=0))
    assert len(columns) == 4
    assert mask[-1, columns].all()
    assert set(np.unique(factor)) == {0.3, 1.0}
    assert (np.diff(mask[:, columns].astype(int), axis=0) >= 0).all()


@pytest.mark.parametrize("corner", ["lower left", "lower right", "upper left", "upper right"])
def test_glow_and_leaks_come_from_their_corner_and_fall_off(corner):
    row, column = (0 if "lower" in corner else 119), (0 if "left" in corner else 159)
    glow = amplifier_glow(SHAPE, corner=corner, scale=20.0)
    leak = light_leak(SHAPE, corner=corner, reach=0.1)  # of a diagonal of 200 pixels
    np.testing.assert_allclose(glow, leak)
    y, x = np.indices(SHAPE)
    np.testing.assert_allclose(glow, np.exp(-np.hypot(y - row, x - column) / 20.0))


def quadrants(ny=8, nx=10):
    halves = [(y, x) for y in (0, ny // 2) for x in (0, nx // 2)]
    sections = [Section(y, y + ny // 2, x, x + nx // 2) for y, x in halves]
    return Detector(amplifiers=[Amplifier(data=s, name=f"Q{n}") for n, s in enumerate(sections)])


def test_ghosts_are_mirrored_between_quadrants_and_nowhere_else():
    detector, image = quadrants(), np.zeros((8, 10))
    image[1, 2] = 1000.0  # in the lower left quadrant
    leak = np.zeros((4, 4))
    leak[1, 0], leak[2, 0], leak[3, 0] = 0.01, 0.02, -0.03
    found = crosstalk(detector, image, leak=leak)
    expected = image.copy()
    expected[1, 7], expected[6, 2], expected[6, 7] = 10.0, 20.0, -30.0
    np.testing.assert_array_equal(found, expected)
    assert image[1, 7] == 0
    same = crosstalk(detector, image, leak=leak, corners=["lower left"] * 4)
    assert (same[1, 7], same[5, 2], same[5, 7]) == (10.0, 20.0, -30.0)


def test_ghosts_have_no_ghosts(rng):
    image = rng.random((8, 10))
    leak = rng.random((4, 4)) * (1 - np.eye(4))
    twice = crosstalk(quadrants(), 2 * image, leak=leak)
    np.testing.assert_allclose(twice, 2 * crosstalk(quadrants(), image, leak=leak))
    np.testing.assert_array_equal(crosstalk(quadrants(), image, leak=np.zeros((4, 4))), image)


@pytest.mark.parametrize(
    "options",
    [{"leak": np.zeros((3, 3))}, {"leak": np.eye(4)}, {"leak": np.zeros((4, 4)), "corners": ["middle"] * 4}],
)
def test_impossible_crosstalk_raises(options):
    with pytest.raises(OptionError):
        crosstalk(quadrants(), np.zeros((8, 10)), **options)


def test_pickup_runs_on_from_row_to_row():
    plane = pickup((50, 80), amplitude=3.0, period=37.3, phase=0.2)
    np.testing.assert_allclose(plane.ravel(), 3 * np.sin(2 * np.pi * (np.arange(4000) / 37.3 + 0.2)), atol=1e-9)


def test_the_middle_is_exposed_longest():
    delay = shutter_delay((101, 151), seconds=0.05)
    assert delay.max() == pytest.approx(delay[50, 75]) == pytest.approx(0.05)
    corners = [delay[y, x] for y in (0, -1) for x in (0, -1)]
    assert max(corners) < 0.01
    assert min(corners) >= 0


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_every_colour_is_on_its_pixels(pattern):
    values = {"R": 0.2, "G": 0.9, "B": 0.5}
    plane = bayer((7, 9), pattern, values)
    for n, color in enumerate(pattern):
        assert (plane[n // 2 :: 2, n % 2 :: 2] == values[color]).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: smooth_field(SHAPE, rng=rng, waves=0),
        lambda rng: fringes(SHAPE, rng=rng, count=100.0),
        lambda rng: Trail(x=1.0, y=np.nan, angle=0.0),
        lambda rng: Trail(x=1.0, y=1.0, angle=0.0, width=0.5),
        lambda rng: Trail(x=1.0, y=1.0, angle=0.0, brightness=-1.0),
        lambda rng: telegraph_pixels(SHAPE, fraction=1.0, step=(1.0, 2.0), rng=rng),
        lambda rng: telegraph_pixels(SHAPE, fraction=0.1, step=(2.0, 1.0), rng=rng),
        lambda rng: bad_columns(SHAPE, count=161, rng=rng),
        lambda rng: light_leak(SHAPE, corner="middle"),
        lambda rng: amplifier_glow(SHAPE, scale=0.0),
        lambda rng: pickup(SHAPE, amplitude=1.0, period=1.0, phase=0.0),
        lambda rng: shutter_delay(SHAPE, seconds=-1.0),
        lambda rng: bayer(SHAPE, "RGG", {"R": 1.0, "G": 1.0}),
        lambda rng: bayer(SHAPE, "RGGB", {"R": 1.0, "G": 1.0}),
        lambda rng: bayer(SHAPE, "RGGB", {"R": 1.0, "G": 1.0, "B": 2.0}),
    ],
)
def test_impossible_faults_raise(make, rng):
    with pytest.raises(OptionError):
        make(rng)
