"""Stacks by point-spread functions, from frames: what they promise, carry to disk, record and refuse."""

import warnings

import numpy as np
import pytest

import larun
from larun import flags as fl
from larun.algorithms.psf import moffat_psf
from larun.errors import LarunWarning, OptionError
from tests.algorithms.coadd_fields import SEEING, SKY, TRANSPARENCY, matched_fluxes, neighbours, pixels

SIDE = 400
SHAPE = (SIDE, SIDE)
HERE = larun.StackOptions(footprint="reference")


def sky_of_stars(seed=2, count=90, apart=26.0):
    """Stars far enough from each other that each is alone."""
    rng = np.random.default_rng(seed)
    found = np.zeros((0, 2))
    while len(found) < count:
        one = rng.uniform(14, SIDE - 14, 2)
        if not len(found) or np.hypot(*(found - one).T).min() > apart:
            found = np.vstack([found, one])
    return *found.T, 10 ** rng.uniform(4.2, 5.0, count)


def shot(stars, k, *, rays=0):
    """Calibrated frame ``k`` of the series, a little turned and moved."""
    x, y, flux = stars
    angle = np.deg2rad(0.2 * k)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    at = matrix @ np.stack([x, y]) + np.array([[1.37 * k], [-0.71 * k]])
    psf = moffat_psf(SEEING[k], 3.5, oversampling=4)
    rng = np.random.default_rng(40 + k)
    variance = psf.draw(SHAPE, *at, flux * TRANSPARENCY[k]) + SKY[k]
    data = rng.normal(variance, np.sqrt(variance))
    for _ in range(rays):
        row, column = rng.integers(0, SIDE - 3, 2)
        data[row, column : column + 3] += rng.uniform(300, 5000)
    return larun.Frame.from_arrays(data, variance=variance, unit="electron", gain=1.0, read_noise=0.0, saturation=1e6)


@pytest.fixture(scope="module")
def stars():
    return sky_of_stars()


@pytest.fixture(scope="module")
def frames(stars):
    return [shot(stars, k, rays=12) for k in range(4)]


@pytest.fixture(scope="module")
def proper(frames):
    return larun.Stack.combine(frames, reference=frames[0], method="proper")


@pytest.fixture(scope="module")
def alike(frames):
    return larun.Stack.combine(frames, reference=frames[0], method="homogenised", options=HERE)


def rest_of(made, stars):
    """The stack without its stars, in units of its noise, where all frames lie and no star is near."""
    x0, y0 = made.provenance.step.fitted["origin"]
    light = made.point_spread.draw(made.shape, stars[0] - x0, stars[1] - y0, stars[2])
    good = (made.flags == 0) & (made.contributors == made.contributors.max()) & (light < 2)
    pulls = (made.data - made.provenance.step.fitted["sky"] - light) / np.sqrt(made.variance)
    return pulls - np.median(pulls[good]), good


def test_a_proper_coadd_has_white_noise_and_the_light_of_its_stars(stars, proper):
    assert type(proper) is larun.MatchedStack
    assert proper.noise_acf is None
    pulls, good = rest_of(proper, stars)
    assert good.sum() > 30000
    assert np.std(pulls[good]) == pytest.approx(1, abs=0.01)
    assert max(abs(neighbours(pulls, good, dy, dx)) for dy, dx in ((0, 1), (1, 0), (1, 1))) < 0.015
    x0, y0 = proper.provenance.step.fitted["origin"]
    inner = (stars[0] > 40) & (stars[0] < SIDE - 40) & (stars[1] > 40) & (stars[1] < SIDE - 40)
    sky = np.median(proper.data[good & (np.abs(pulls) < 3)])
    found = matched_fluxes(proper.data - sky, proper.point_spread, stars[0][inner] - x0, stars[1][inner] - y0)
    assert np.median(found / stars[2][inner]) == pytest.approx(1, abs=0.005)
    assert proper.psf().fwhm == pytest.approx(proper.point_spread.fwhm, rel=0.08)
    table = proper.photometer(
        np.column_stack([stars[0] - x0, stars[1] - y0])[inner], radii=(9.0,), unit="pixel", annulus=(14.0, 20.0)
    ).table
    light = np.asarray(table["aperture_flux_1"].value) / stars[2][inner]
    assert np.median(light) == pytest.approx(0.985, abs=0.015)
    assert proper.rejected.sum() > 60
    assert len(proper.detect().table) >= len(stars[0]) - 2


def test_homogenised_stars_have_the_shape_of_the_worst_frame(stars, alike):
    notes = alike.provenance.step.fitted["frames"]
    worst = max(notes, key=lambda note: note["psf_fwhm"])
    assert worst["psf_fwhm"] == pytest.approx(5.0, abs=0.06)
    assert alike.point_spread.fwhm == worst["psf_fwhm"]
    assert all(note["psf_residual"] < 0.02 for note in notes)
    own = alike.psf().function
    assert np.max(np.abs(pixels(own) / np.sum(pixels(own)) - pixels(alike.point_spread))) < 0.02 * pixels(own).max()
    pulls, good = rest_of(alike, stars)
    assert np.std(pulls[good]) == pytest.approx(1, abs=0.03)
    half = alike.noise_acf.shape[0] // 2
    assert half > 3
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 3)):
        assert neighbours(pulls, good, dy, dx) == pytest.approx(alike.noise_acf[half + dy, half + dx], abs=0.03)
    inner = (stars[0] > 40) & (stars[0] < SIDE - 40) & (stars[1] > 40) & (stars[1] < SIDE - 40)
    sky = np.median(alike.data[good & (np.abs(pulls) < 3)])
    found = matched_fluxes(alike.data - sky, alike.point_spread, stars[0][inner], stars[1][inner])
    assert np.median(found / stars[2][inner]) == pytest.approx(1, abs=0.005)


def test_errors_of_apertures_know_how_noise_hangs_together(stars, frames, proper, alike):
    rng = np.random.default_rng(8)
    for made in (proper, alike):
        _, good = rest_of(made, stars)
        places = rng.uniform(30, SIDE - 30, (4000, 2))
        column, row = np.rint(places).astype(int).T
        clear = np.array([good[b - 4 : b + 5, a - 4 : a + 5].all() for a, b in zip(column, row, strict=True)])
        got = made.photometer(places[clear], radii=(3.0,), unit="pixel", annulus=(6.0, 14.0)).table
        pull = np.asarray(got["aperture_flux_1"].value) / np.asarray(got["aperture_flux_error_1"].value)
        assert clear.sum() > 500
        assert 1.4826 * np.median(np.abs(pull - np.median(pull))) == pytest.approx(1, abs=0.12)


def test_they_come_back_from_disk_and_know_their_psf_on_a_window(proper, alike, tmp_path):
    for made in (proper, alike):
        again = larun.Image.read(made.write(tmp_path / f"{made.point_spread.kind}.fits"))
        assert type(again) is larun.MatchedStack
        assert again.identical(made)
        part = made.crop((100, 250), (60, 200))
        at = (120.0, 80.0)
        one, two = made.point_spread, part.point_spread
        np.testing.assert_allclose(one.values(0.3, 0.1, 220.0, 140.0), two.values(0.3, 0.1, *at), rtol=1e-12)
        with pytest.raises(OptionError, match="bin the frames"):
            made.bin(2)
        with pytest.raises(OptionError, match="combine all of them again"):
            made.add(made)


def test_order_and_names_decide_nothing(frames, proper, tmp_path):
    paths = [frame.write(tmp_path / f"{name}.fits") for name, frame in zip("dbca", frames, strict=True)]
    other = larun.Stack.combine(
        paths[::-1], reference=paths[0], method="proper", options=larun.StackOptions(max_memory=2e6)
    )
    assert other.provenance.id == proper.provenance.id
    assert other.data.tobytes() == proper.data.tobytes()
    assert other.variance.tobytes() == proper.variance.tobytes()
    assert other.psf_nodes.tobytes() == proper.psf_nodes.tobytes()


def test_a_target_by_its_width(stars, frames):
    made = larun.Stack.combine(
        frames[:2],
        reference=frames[0],
        method="homogenised",
        options=larun.StackOptions(footprint="reference", target_fwhm=5.5),
    )
    assert made.point_spread.fwhm == 5.5
    assert made.psf().fwhm == pytest.approx(5.5, abs=0.08)
    assert made.provenance.step.parameters["options"]["target_fwhm"] == 5.5
    with pytest.raises(OptionError, match="none are made sharper"):
        larun.Stack.combine(
            frames[:2],
            reference=frames[0],
            method="homogenised",
            options=larun.StackOptions(target_fwhm=3.0),
        )


def test_a_method_that_is_not_there_is_told_all_that_are(frames):
    with pytest.raises(OptionError, match="artefacts, mean, median, proper, homogenised"):
        larun.Stack.combine(frames, method="best")


def test_options_without_a_sense_are_refused_and_old_records_stay(frames):
    with pytest.raises(OptionError, match="only method='homogenised' has a target"):
        larun.Stack.combine(frames, options=larun.StackOptions(target_fwhm=6.0))
    with pytest.raises(OptionError, match="leave it out"):
        larun.Stack.combine(frames, method="proper", weights="equal")
    with pytest.raises(OptionError, match=r"target_fwhm=0\.1"):
        larun.StackOptions(target_fwhm=0.1)
    made = larun.Stack.combine(frames[:2], reference=frames[0])
    assert "target_fwhm" not in made.provenance.step.parameters["options"]


def test_frames_without_stars_for_a_psf_say_what_stands_for_them():
    x, y, _ = sky_of_stars(seed=5, count=24, apart=50.0)
    shots = [shot((x, y, np.full(24, 3000.0)), k) for k in (0, 1)]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = larun.Stack.combine(shots, reference=shots[0], method="proper", options=HERE)
    assert sum("a Moffat profile of" in str(one.message) for one in told) >= 1
    assert all(issubclass(one.category, LarunWarning) for one in told)
    assert ((made.flags & fl.NO_DATA) != 0).mean() < 0.05
