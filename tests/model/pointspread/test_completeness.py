"""Completeness of PSF photometry by stars that are put in: a cluster whose truth is known, and M13."""

import warnings

import numpy as np
import pytest
from scipy.spatial import cKDTree

import larun
from larun.algorithms.psf import moffat_psf
from larun.errors import CatalogError, OptionError
from tests.conftest import real_data

SIDE, FWHM, SKY, READ_NOISE = 240, 3.5, 200.0, 5.0
CENTRE = ((SIDE - 1) / 2, (SIDE - 1) / 2)
RINGS, FAINT_TO_BRIGHT = (0.0, 40.0, 110.0), (-9.0, -7.75, -6.5)


def cluster(seed, count=1000):
    """A frame of a cluster, and x, y and flux of its stars."""
    rng = np.random.default_rng(seed)
    distance, turn = 35 * np.sqrt(1 / rng.random(3 * count) - 1), rng.uniform(0, 2 * np.pi, 3 * count)
    x, y = CENTRE[0] + distance * np.cos(turn), CENTRE[1] + distance * np.sin(turn)
    inside = (np.minimum(x, y) > 0) & (np.maximum(x, y) < SIDE - 1)
    x, y = x[inside][:count], y[inside][:count]
    flux = 1 / (1 / 150 + rng.random(x.size) * (1 / 1e5 - 1 / 150))
    bright = 12 + 24 * np.arange(10.0)
    x, y = np.concatenate([x, bright, bright]), np.concatenate([y, np.full(10, 8.0), np.full(10, SIDE - 9.0)])
    flux = np.concatenate([flux, np.full(20, 4e4)])  # for the PSF
    light = larun.simulate.render((SIDE, SIDE), x, y, flux, fwhm=FWHM, beta=3.0)
    data = larun.simulate.noisy(light + SKY, read_noise=READ_NOISE, rng=rng)
    variance = np.maximum(data, 0) + READ_NOISE**2
    frame = larun.Frame.from_arrays(
        data, variance=variance, unit="electron", gain=1.0, read_noise=READ_NOISE, saturation=1e6
    )
    return frame, x, y, flux


@pytest.fixture(scope="module")
def measured():
    frame, *truth = cluster(2)
    sources = frame.detect()
    deep = sources.photometer(method=frame.psf(sources), options={"crowded": True})
    return frame, deep, truth


def really_found(deep, truth, low, high, inner, outer):
    """The share of the cluster's own stars that are in the catalogue, by the same rule."""
    x, y, flux = truth
    distance, magnitude = np.hypot(x - CENTRE[0], y - CENTRE[1]), -2.5 * np.log10(flux)
    chosen = np.flatnonzero((magnitude >= low) & (magnitude < high) & (distance >= inner) & (distance < outer))
    known = np.isfinite(deep["flux_psf"].value) & (deep["flux_psf"].value > 0)
    places = np.column_stack([deep["x_psf"].value, deep["y_psf"].value])[known]
    found = np.asarray(deep["mag_psf"].value)[known]
    near = cKDTree(places).query_ball_point(np.column_stack([x, y])[chosen], 0.75 * FWHM)
    hits = [bool(np.any(np.abs(found[list(n)] - magnitude[k]) <= 0.75)) for n, k in zip(near, chosen, strict=True)]
    return np.mean(hits), len(hits)


def test_the_share_is_that_of_the_stars_of_the_field_itself(measured):
    frame, deep, truth = measured
    table = frame.completeness(deep, centre=CENTRE, rings=RINGS, magnitudes=FAINT_TO_BRIGHT, options={"stars": 30})
    for row in table:
        ring = row["ring_inner"].value, row["ring_outer"].value
        share, count = really_found(deep, truth, row["mag_low"], row["mag_high"], *ring)
        scatter = np.sqrt(0.25 / 30 + 0.25 / count)
        print(ring, row["mag_low"], row["share"], round(share, 3), count)
        assert abs(row["share"] - share) < 3 * scatter
    share = table["share"].reshape(2, 2)
    assert (share[1] > share[0] + 0.15).all()  # less is found where stars stand dense
    assert (share[:, 0] > share[:, 1] + 0.15).all()  # and of the faint
    assert (table["share_low"] < table["share"]).all()
    assert abs(table["mag_bias"][2]) < 0.05  # bright, and outside


def test_the_same_seed_gives_the_same_table_and_a_single_pass_finds_fewer(measured):
    frame, deep, _ = measured
    how = {"centre": CENTRE, "rings": RINGS, "magnitudes": (-8.2, -7.2), "options": {"stars": 16}}
    once, again = (frame.completeness(deep, **how) for _ in range(2))
    assert all(np.array_equal(once[name], again[name], equal_nan=True) for name in once.colnames)
    assert once.meta["crowded"]
    single = frame.completeness(frame.detect().photometer(method=deep.psf), **how)
    assert not single.meta["crowded"]
    assert single["found"].sum() < 0.8 * once["found"].sum()


def test_what_was_there_before_is_no_recovery():
    from larun.algorithms.detect import DetectOptions
    from larun.algorithms.psf_field import FieldOptions
    from larun.algorithms.psf_inject import InjectOptions, inject

    psf = moffat_psf(3.0, 3.0, radius=14)
    flat = np.full((60, 60), 100, np.float32)
    known = np.array([[30.0, 30.0, 5e3]])
    data = (flat + psf.draw((60, 60), *known.T)).astype(np.float32)
    how = InjectOptions(detect=DetectOptions(fwhm=3.0), fit=FieldOptions(), search=None)
    stars = np.array([[30.2, 30.0, 5e3], [45.0, 30.0, 5e3], [30.3, 30.0, 6e2]])
    made = inject((data, flat, flat, np.zeros((60, 60), np.uint32)), psf, known, stars, options=how)
    assert made.before.tolist() == [True, False, False]
    assert made.found.tolist() == [False, True, False]
    assert abs(made.flux[1] / 5e3 - 1) < 0.1


def test_what_cannot_be_asked_for_is_refused(measured):
    frame, deep, _ = measured
    with pytest.raises(CatalogError, match="method='psf'"):
        frame.completeness(frame.detect())
    for wrong, words in (({"rings": (5.0, 1.0)}, "rings"), ({"magnitudes": (1.0,)}, "magnitudes")):
        with pytest.raises(OptionError, match=words):
            frame.completeness(deep, **wrong)
    with pytest.raises(OptionError, match="0 of 20 stars have a place"):
        frame.completeness(deep, centre=(0, 0), rings=(900.0, 950.0))
    with pytest.raises(OptionError, match="agree"):
        frame.completeness(deep, options={"agree": 0})


def test_towards_the_middle_of_m13_fewer_stars_are_found():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", larun.errors.LarunWarning)
        frame = larun.Frame.read(real_data("nickel", "d1059.fits.fz")).calibrate((), without=("bias", "dark", "flat"))
    frame = frame.crop((560, 820), (560, 820))  # the middle of the cluster is to the lower left of this part
    sources = frame.detect()
    deep = sources.photometer(method=frame.psf(sources, order=0), options={"crowded": True})
    how = {"rings": (110, 190, 270, 360), "magnitudes": (-11.5, -10.0), "options": {"stars": 12}}
    table = frame.completeness(deep, centre=(-97, -51), **how)
    print(table["share"], table["mag_bias"])
    inner, _, outer = table["share"]
    assert outer > inner + 0.25
    assert outer > 0.7
    assert 30 < table["snr"][0] < 150
