"""Fluxes at given places of differences, and light curves of them: a variable comes back, and errors are right."""

import numpy as np
import pytest

import larun
from larun.algorithms.psf import moffat_psf
from larun.errors import CatalogError, FileError, OptionError

SIDE = 300
SHAPE = (SIDE, SIDE)
SEEING = (3.4, 2.8, 3.0, 3.9)
#: Of the variable, in each epoch and in the reference.
VARIABLE = (152.3, 148.8)
LIGHT = (0.0, 3000.0, 1200.0, 6000.0)
PLAIN = larun.SubtractOptions(order=0, background=0)
FIXED = larun.StackOptions(footprint="reference", scale="none", background="none")


def places():
    """Constant stars, and places where nothing is."""
    rng = np.random.default_rng(1)
    y, x = (axis.ravel() for axis in np.mgrid[25 : SIDE - 25 : 25, 25 : SIDE - 25 : 25].astype(float))
    x, y = x + rng.uniform(-4, 4, x.size), y + rng.uniform(-4, 4, x.size)
    keep = np.hypot(x - VARIABLE[0], y - VARIABLE[1]) > 16
    x, y = x[keep], y[keep]
    empty = rng.uniform(20, SIDE - 20, (150, 2))
    near = np.hypot(empty[:, :1] - np.append(x, VARIABLE[0]), empty[:, 1:] - np.append(y, VARIABLE[1])).min(axis=1)
    return x, y, 10 ** rng.uniform(3.0, 4.3, x.size), empty[near > 9]


def exposure(fwhm, more, seed, hour=0):
    x, y, flux, _ = places()
    psf = moffat_psf(fwhm, 3.5, oversampling=3)
    variance = psf.draw(SHAPE, [*x, VARIABLE[0]], [*y, VARIABLE[1]], [*flux, more]) + 300
    data = np.random.default_rng(seed).normal(variance, np.sqrt(variance))
    header = {"DATE-OBS": f"2024-03-01T{hour:02d}:00:00", "EXPTIME": 60.0, "FILTER": "V"}
    return larun.Frame.from_arrays(
        data, variance=variance, unit="electron", gain=1.0, read_noise=0.0, saturation=1e6, header=header
    )


def series(seed, *, member):
    """Differences of four epochs; the reference is of other frames, or of the epochs themselves."""
    epochs = [exposure(fwhm, LIGHT[k], [seed, k], k) for k, fwhm in enumerate(SEEING)]
    others = [exposure(2.6, 500.0, [seed, 10 + k], 10) for k in range(4)]
    used = epochs if member else others
    reference = larun.Stack.combine(used, reference=used[0], method="mean", align="stars", options=FIXED)
    return [epoch.subtract(reference, align="none", options=PLAIN) for epoch in epochs], reference


@pytest.fixture(scope="module", params=[False, True], ids=["other frames", "the epochs"])
def many(request):
    return request.param, [series(seed, member=request.param) for seed in range(3)]


def test_constant_stars_and_empty_places_have_their_errors(many):
    x, y, _, empty = places()
    _, all_of_them = many
    for at in (np.column_stack([x, y]), empty):
        pulls, squares = [], []
        for differences, _ in all_of_them:
            made = larun.LightCurve.from_differences(differences, at)
            pulls.append((made["flux"].value / made["flux_error"].value).reshape(len(at), -1))
            for n in range(len(at)):
                found, told = made.curve(n + 1)["flux"].value, made.covariance(n + 1)
                size = np.sqrt(np.diag(told))
                squares.append(np.outer(found, found) / np.outer(size, size) - told / np.outer(size, size))
        pulls = np.concatenate(pulls)
        assert len(pulls) > 150
        assert np.max(np.abs(np.mean(pulls, axis=0))) < 0.25  # of no epoch the light is wrong by a part
        for one in pulls.T:  # each epoch
            assert np.std(one) == pytest.approx(1, abs=0.1)
        assert np.mean(pulls**2) == pytest.approx(1, abs=0.1)
        # what epochs have in common, of each pair
        away = np.mean(squares, axis=0)[~np.eye(4, dtype=bool)]
        assert np.max(np.abs(away)) < 0.25
        assert abs(np.mean(away)) < 0.09


def test_where_the_epochs_made_the_reference_they_are_less_noisy_and_opposed():
    apart, inside = (series(1, member=member)[0] for member in (False, True))
    x, y, _, _ = places()
    one, two = (larun.LightCurve.from_differences(item, [[x[0], y[0]]]) for item in (apart, inside))
    assert two.meta["parts_of_reference"] == pytest.approx([0.18, 0.40, 0.31, 0.11], abs=0.03)
    assert one.meta["parts_of_reference"] == [0.0] * 4
    assert (two["flux_error"].value < one["flux_error"].value).all()
    off = ~np.eye(4, dtype=bool)
    assert (one.covariance()[off] > 0).all()
    assert (two.covariance()[off] < 0).all()


def test_a_variable_comes_back_with_its_light_and_upper_limits_hold(many):
    for differences, reference in many[1]:
        made = larun.LightCurve.from_differences(differences[::-1], [VARIABLE])
        own = made.curve()
        assert list(own["jd_utc"].value) == sorted(own["jd_utc"].value)
        notes = {note["frame"]: note["weight"] for note in reference.provenance.step.fitted["frames"]}
        total = sum(notes.values())
        ids = [one.provenance.parents[0].provenance.id for one in differences]
        there = sum(notes.get(key, 0) * light for key, light in zip(ids, LIGHT, strict=True)) / total
        there = there if any(key in notes for key in ids) else 500.0
        pull = (own["flux"].value - (np.array(LIGHT) - there)) / own["flux_error"].value
        assert np.max(np.abs(pull)) < 4.2
        assert (own["flux_limit"].value >= own["flux"].value + 2.99 * own["flux_error"].value - 1e-6).all()
        assert (np.array(LIGHT) - there < own["flux_limit"].value + 2 * own["flux_error"].value).all()


def test_forced_photometry_of_one_difference_is_a_catalogue(tmp_path):
    (one, *_), _ = series(2, member=False)
    empty = places()[3]
    at = np.vstack([[VARIABLE], empty[:5], [[1.0, 1.0]], [[-20.0, 5.0]]])
    made = one.forced(at, limit=5.0)
    assert isinstance(made, larun.SourceCatalog)
    table = made.table
    assert np.isnan(table["flux"][-1])
    more = (table["flux_limit"].value - np.maximum(table["flux"].value, 0))[:6]
    np.testing.assert_allclose(more, 5 * table["flux_error"].value[:6], rtol=1e-9)
    assert made.meta["limit"] == 5.0
    assert made.provenance.step.operation == "forced_differences"
    again = larun.SourceCatalog.read(made.write(tmp_path / "forced.ecsv"))
    assert again.identical(made)
    # against a fit of the same PSF by another way
    from larun.algorithms.psf_fit import FitOptions, fit_stars

    planes = one.data, np.zeros_like(one.data), np.full_like(one.data, np.nanmedian(one.variance)), one.flags
    fits = fit_stars(planes, one.point_spread, *at[:6].T, options=FitOptions(free_position=False, gain=1e9))
    np.testing.assert_allclose(table["flux"].value[:6], fits.flux, atol=0.25 * table["flux_error"].value[0])


def test_a_curve_is_written_and_read_and_refuses_what_makes_no_sense(tmp_path):
    differences, _ = series(3, member=True)
    other = series(4, member=False)[0][0]
    x, y, _, _ = places()
    made = larun.LightCurve.from_differences(differences, np.column_stack([x, y])[:3])
    assert (made.stars, len(made.curve(2)), len(made.time(3))) == (3, 4, 4)
    assert made.good(1).all()
    assert made.covariance(2).shape == (4, 4)
    for suffix in (".ecsv", ".fits"):
        again = larun.DifferenceCurve.read(made.write(tmp_path / f"curve{suffix}"))
        assert again.identical(made)
        np.testing.assert_array_equal(again.covariance(3), made.covariance(3))
    paths = [one.write(tmp_path / f"{n}.fits") for n, one in enumerate(differences)]
    stored = larun.LightCurve.from_differences(paths, np.column_stack([x, y])[:3])
    assert stored.provenance.id == made.provenance.id
    np.testing.assert_array_equal(stored["flux"].value, made["flux"].value)
    for wrong, words in (
        ({"differences": []}, "no differences"),
        ({"differences": [*differences, other]}, "2 references"),
        ({"limit": 0.0}, "limit=0.0"),
        ({"positions": np.zeros((0, 2))}, "no place"),
    ):
        how = {"differences": differences, "positions": [[50.0, 50.0]]} | wrong
        with pytest.raises(OptionError, match=words):
            larun.LightCurve.from_differences(how.pop("differences"), how.pop("positions"), **how)
    with pytest.raises(CatalogError, match="must be 1 … 3"):
        made.curve(4)
    with pytest.raises(OptionError, match="limit=-1"):
        differences[0].forced([[50.0, 50.0]], limit=-1)
    made.write(tmp_path / "wrong.ecsv")
    with pytest.raises(FileError, match="no light curve of differences"):
        larun.DifferenceCurve.read(differences[0].forced([[50.0, 50.0]]).write(tmp_path / "catalogue.ecsv"))
