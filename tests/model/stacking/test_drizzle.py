"""Drizzled stacks: light, width, errors, what is left out, the sky they lie on, their record."""

import math
import warnings

import numpy as np
import pytest
from astropy.wcs import WCS
from scipy.special import erf

import larun
from larun import flags as fl
from larun.errors import LarunWarning, OptionError
from larun.model.replay.calls import _RULES

N = 150
FWHM = 1.3
SKY, NOISE = 50.0, 4.0
INSIDE = larun.StackOptions(footprint="reference")
TURNS = np.random.default_rng(8).uniform(-0.01, 0.01, 10)
SHIFTS = np.random.default_rng(9).uniform(-3, 3, (10, 2))


def stars():
    rng = np.random.default_rng(5)
    x, y = (item.ravel() for item in np.meshgrid(*[np.arange(14, N - 13, 15.0)] * 2))
    return x + rng.uniform(-2, 2, x.size), y + rng.uniform(-2, 2, x.size), 10 ** rng.uniform(3.5, 4.8, x.size)


def header(k):
    """The sky on an exposure: turned around its middle and moved, as :func:`exposure` moves the stars."""
    c, s = math.cos(TURNS[k]), math.sin(TURNS[k])
    scale = 1e-4
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 150.0,
        "CRVAL2": 20.0,
        "CRPIX1": N / 2 + 1 + (k > 0) * SHIFTS[k, 0],
        "CRPIX2": N / 2 + 1 + (k > 0) * SHIFTS[k, 1],
        "CD1_1": -scale * (c if k else 1),
        "CD1_2": -scale * (s if k else 0),
        "CD2_1": -scale * (s if k else 0),
        "CD2_2": scale * (c if k else 1),
        "EXPTIME": 60.0,
    }


def exposure(k, *, seed=0, field=None, hits=0):
    """The k-th dither: stars integrated over pixels, cosmic rays, and a hot pixel that stays where it is."""
    rng = np.random.default_rng(100 * seed + k)
    angle, (dx, dy) = (TURNS[k], SHIFTS[k]) if k else (0.0, (0.0, 0.0))
    c, s, half, sigma = math.cos(angle), math.sin(angle), N / 2, FWHM / 2.3548
    image, edges = np.full((N, N), SKY), np.arange(N + 1) - 0.5
    for x, y, flux in zip(*(stars() if field is None else field), strict=True):
        at = half + c * (x - half) - s * (y - half) + dx, half + s * (x - half) + c * (y - half) + dy
        along, across = (np.diff(erf((edges - item) / sigma / math.sqrt(2))) / 2 for item in at)
        image += flux * np.outer(across, along)
    data = rng.poisson(image) + rng.normal(0, NOISE, image.shape)
    if hits:
        y, x = rng.integers(0, N, (2, hits))
        data[y, x] += rng.uniform(200, 5000, hits)
        data[70, 61] += 3000
    return larun.Frame.from_arrays(
        data,
        variance=image + NOISE**2,
        unit="electron",
        gain=1.0,
        read_noise=NOISE,
        saturation=1e6,
        header=header(k),
    )


@pytest.fixture(scope="module")
def frames():
    return [exposure(k, hits=30) for k in range(10)]


@pytest.fixture(scope="module")
def made(frames):
    return larun.Stack.drizzle(frames, reference=frames[0], options=INSIDE)


def test_stars_have_their_light_at_their_places(made):
    x, y, flux = stars()
    assert made.shape == (2 * N, 2 * N)
    places = np.column_stack([2 * x + 0.5, 2 * y + 0.5])
    inner = np.minimum(np.minimum(x, y), N - 1 - np.maximum(x, y)) > 16
    table = made.detect().table
    away = np.hypot(np.asarray(table["x"])[:, None] - places[:, 0], np.asarray(table["y"])[:, None] - places[:, 1])
    assert np.max(away.min(axis=0)[inner]) < 0.15
    clean = [exposure(k) for k in range(10)]
    alone = larun.Stack.drizzle(
        clean, reference=clean[0], options=larun.StackOptions(footprint="reference", scale="none", sigma=1e9)
    )
    for image, most in ((alone, 1.5e-3), (made, 4e-3)):  # rays on stars count, and the light of the reference
        got = image.photometer(places, radii=(7.0,), unit="pixel").table
        found, error = (np.asarray(got[name]) for name in ("aperture_flux_1", "aperture_flux_error_1"))
        assert np.sum(found[inner]) == pytest.approx(np.sum(flux[inner]), rel=most)
        assert np.std((found / flux - 1)[inner & (flux > 2e4)]) < 3 * most
    pull = (found - flux * np.median(found / flux))[inner] / error[inner]
    assert 1.4826 * np.median(np.abs(pull)) < 1.5


def test_stars_are_sharper_and_rounder_than_interpolated_ones(frames, made):
    kernels = ("bilinear", "lanczos3")
    soft, crisp = (
        larun.Stack.combine(frames, reference=frames[0], options=larun.StackOptions(footprint="reference", kernel=name))
        for name in kernels
    )
    sharp = larun.Stack.drizzle(frames, reference=frames[0], pixfrac=0.4, options=INSIDE)
    widths = [made.star_size().fwhm / 2, sharp.star_size().fwhm / 2, soft.star_size().fwhm]
    # a star, the pixel, the drop, the pixel of the stack
    told = [math.hypot(FWHM, 2.3548 / math.sqrt(12) * math.sqrt(1 + drop**2 + 0.25)) for drop in (0.7, 0.4)]
    assert widths[:2] == pytest.approx(told, rel=0.03)
    assert widths[1] < widths[0] < widths[2]
    x, y, flux = stars()
    bright = (flux > 1e4) & (np.minimum(np.minimum(x, y), N - 1 - np.maximum(x, y)) > 16)
    long = [np.std(elongations(image, x[bright], y[bright], factor)) for image, factor in ((soft, 1), (crisp, 1))]
    fine = [np.std(elongations(image, x[bright], y[bright], 2)) for image in (made, sharp)]
    assert max(fine) < 0.5 * min(long)


def elongations(image, x, y, factor):
    """Of stars along the axes, by their moments within a Gaussian."""
    made, level, sigma = [], np.nanmedian(image.data), 0.7 * factor
    for a, b in zip(factor * x + (factor - 1) / 2, factor * y + (factor - 1) / 2, strict=True):
        i, j, half = round(a), round(b), int(4 * sigma + 3)
        part = np.s_[j - half : j + half + 1, i - half : i + half + 1]
        rows, columns = np.mgrid[part]
        light = np.nan_to_num(image.data[part] - level) * np.exp(-((columns - a) ** 2 + (rows - b) ** 2) / 2 / sigma**2)
        along, across = np.sum(light * (columns - a) ** 2), np.sum(light * (rows - b) ** 2)
        made.append((along - across) / (along + across))
    return made


def test_what_one_frame_saw_is_not_there(frames, made):
    kept = larun.Stack.drizzle(
        frames, reference=frames[0], options=larun.StackOptions(footprint="reference", sigma=1e9)
    )
    x, y, _ = stars()
    rows, columns = np.mgrid[: 2 * N, : 2 * N]
    away = np.min([np.hypot(columns - 2 * a, rows - 2 * b) for a, b in zip(x, y, strict=True)], axis=0) > 12
    away[:16], away[-16:], away[:, :16], away[:, -16:] = False, False, False, False
    for image, most in ((made, 0), (kept, 10**6)):
        pull = np.abs(image.data - np.median(image.data[away])) / np.sqrt(np.nanmedian(image.variance))
        assert (pull[away] > 7).sum() <= most
    assert (pull[away] > 7).sum() > 50
    assert (made.rejected[away] > 0).mean() > 0.01
    assert int(made.contributors.max()) == 10
    assert made.coverage[40:-40, 40:-40].mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("pixfrac", [0.6, 1.0])
def test_acceptance_26_errors_of_apertures_on_drizzled_noise(pixfrac):
    nothing = (np.empty(0),) * 3
    options = larun.StackOptions(footprint="reference", scale="none", background="none", sigma=1e9)
    pulls = {radius: [] for radius in (3.0, 5.0, 8.0)}
    for seed in (1, 2, 3):
        images = [exposure(k, seed=seed, field=nothing) for k in range(8)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LarunWarning)  # no stars
            stack = larun.Stack.drizzle(images, reference=images[0], align="wcs", pixfrac=pixfrac, options=options)
        for radius, found in pulls.items():
            step = 2 * radius + 3
            grid = np.arange(24, 2 * N - 24, step)
            x, y = (item.ravel() + 0.37 for item in np.meshgrid(grid, grid))
            level = np.full(x.size, SKY / 4)
            found += list(_pulls(stack, x, y, radius, level))
    for radius, found in pulls.items():
        assert np.std(found) == pytest.approx(1, abs=0.05 + 1 / math.sqrt(2 * len(found))), radius


def _pulls(stack, x, y, radius, level):
    from larun.algorithms.aperture import aperture_sums
    from larun.model.planes import correlation_around

    acf = correlation_around(stack, x, y, [radius])
    sums = aperture_sums(stack.data, stack.variance, stack.flags, x, y, [radius], acf=acf)
    return (sums.sum[:, 0] - level * math.pi * radius**2) / np.sqrt(sums.variance[:, 0])


def test_it_lies_on_the_sky_of_the_reference(frames, made):
    here, there = WCS(frames[0].header), WCS(made.header)
    x, y = np.array([10.0, 80.0, 120.0]), np.array([20.0, 60.0, 140.0])
    one, two = here.pixel_to_world(x, y), there.pixel_to_world(2 * x + 0.5, 2 * y + 0.5)
    assert np.max(one.separation(two).arcsec) < 1e-6
    union = larun.Stack.drizzle(frames[:4], reference=frames[0], scale=0.8, pixfrac=1.0)
    assert union.shape[0] > N / 0.8
    sky = WCS(union.header)
    grid = union.provenance.step.fitted["origin"]
    two = sky.pixel_to_world((x - grid[0] + 0.5) / 0.8 - 0.5, (y - grid[1] + 0.5) / 0.8 - 0.5)
    assert np.max(one.separation(two).arcsec) < 1e-6


def test_it_is_a_frame_with_a_record(frames, made, tmp_path):
    again = larun.Image.read(made.write(tmp_path / "drizzled.fits"))
    assert type(again) is larun.Stack
    assert again.identical(made)
    step = made.provenance.step
    assert (step.operation, dict(step.parameters)["pixfrac"], dict(step.parameters)["scale"]) == ("drizzle", 0.7, 0.5)
    assert {item["frame"] for item in step.fitted["frames"]} == {frame.provenance.id for frame in frames}
    paths = [frame.write(tmp_path / f"{name}.fits") for name, frame in zip("jihgfedcba", frames, strict=True)]
    small = larun.StackOptions(footprint="reference", max_memory=1e5)
    other = larun.Stack.drizzle(paths[::-1], reference=paths[0], options=small)
    assert other.provenance.id == made.provenance.id
    assert other.data.tobytes() == made.data.tobytes()
    assert other.variance.tobytes() == made.variance.tobytes()
    assert np.array_equal(other.flags, made.flags)
    assert "drizzle" in _RULES
    part = made.crop((10, 60), (20, 50))
    assert np.array_equal(part.coverage, made.coverage[20:50, 10:60])
    with pytest.raises(OptionError, match="resampled before"):
        larun.Stack.drizzle([made, part])


def test_too_few_frames_leave_holes_and_that_is_said(frames):
    with pytest.warns(LarunWarning, match=r"no drop has fallen on .* larger pixfrac than 0\.1"):
        holes = larun.Stack.drizzle(frames[:2], reference=frames[0], scale=0.25, pixfrac=0.1, options=INSIDE)
    empty = holes.contributors == 0
    assert empty[20:-20, 20:-20].any()
    assert (holes.flags[empty] & fl.NO_DATA != 0).all()
    with pytest.raises(OptionError, match="scale=3"):
        larun.Stack.drizzle(frames, scale=3)
