"""PSF photometry of catalogues and positions: fluxes, errors, neighbours, records."""

import math
import pickle

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun import flags as fl
from larun.algorithms.jit import set_threads
from larun.errors import CatalogError, OptionError
from tests.model.test_psf import SIDE, field

COLUMNS = ("x_psf", "y_psf_error", "flux_psf", "flux_psf_error", "mag_psf", "mag_psf_error", "psf_chi2", "psf_status")


def width(pulls):
    low, high = np.nanquantile(pulls, (0.1587, 0.8413))
    return (high - low) / 2


@pytest.fixture(scope="module")
def crowd():
    """Bright stars on a grid and 200 faint ones anywhere; the frame, and where the bright ones are."""
    return field(3, faint=200)


@pytest.fixture(scope="module")
def sources(crowd):
    return crowd[0].detect()


@pytest.fixture(scope="module")
def measured(sources):
    return sources.photometer(method="psf")


def test_a_catalogue_gets_fluxes_magnitudes_positions_and_what_they_are_worth(crowd, measured):
    _, x, y = crowd
    assert set(COLUMNS) <= set(measured.columns)
    at = np.column_stack([measured["x_psf"].value, measured["y_psf"].value])
    nearest = np.argmin(np.hypot(at[:, 0][None] - x[:, None], at[:, 1][None] - y[:, None]), axis=1)
    bright = measured.select(np.isin(np.arange(len(measured)), nearest))
    ratio = bright["flux_psf"].value / 4e4
    assert abs(np.median(ratio) - 1) < 0.02  # all light is not in the aperture to which the PSF is normalised
    assert np.allclose(bright["mag_psf"].value, -2.5 * np.log10(bright["flux_psf"].value))
    assert np.mean(bright["psf_status"] == "ok") > 0.95
    assert np.median(bright["psf_chi2"]) < 1.3
    assert measured.psf.model == "empirical"
    assert measured.meta["psf_aperture"] == measured.psf.aperture


def test_what_was_measured_before_stays_and_is_renewed(sources, measured):
    both = measured.photometer((3.0,), unit="pixel").photometer(method=measured.psf)
    assert "aperture_flux_1" in both.columns
    assert np.array_equal(both["flux_psf"], measured["flux_psf"], equal_nan=True)
    assert both.columns.count("flux_psf") == 1


def test_crowded_finds_stars_beneath_others_and_leaves_noise(sources, measured):
    deep = sources.photometer(method=measured.psf, options={"crowded": True})
    assert len(deep) > len(sources) + 10
    new = deep.select(deep["psf_status"] == "beneath another")
    assert np.isnan(new["peak"].value).all()
    assert new["id"].min() == len(sources) + 1
    assert abs(deep.meta["psf_noise_ratio"] - 1) < 0.06
    assert deep.meta["psf_noise_ratio"] <= measured.meta["psf_noise_ratio"]
    rest = deep.residual()
    assert type(rest) is larun.Frame
    assert abs(np.median(rest.data) - np.median(deep.image.background().level)) < 3
    assert np.std(rest.data) < 0.15 * np.std(deep.image.data)
    assert len(rest.detect(fwhm=3.0)) < 0.1 * len(sources)
    with pytest.raises(CatalogError, match="no stars to subtract"):
        sources.residual()


def test_forced_photometry_stays_where_it_is_told_and_knows_the_neighbours(crowd):
    frame, x, y = crowd
    empty = np.array([[x[0] + 5.0, y[0] + 1.0], [x[1], y[1]], [-50.0, 3.0]])
    psf = frame.psf(model="moffat")
    found = frame.photometer(empty, method=psf)
    assert np.array_equal(found["x_psf"].value[:2], empty[:2, 0])
    assert np.all(found["x_psf_error"].value[:2] == 0)
    assert abs(found["flux_psf"].value[0]) < 5 * found["flux_psf_error"].value[0]  # 5 pixels from 40,000 electrons
    assert abs(found["flux_psf"].value[1] / 4e4 - 1) < 0.05
    assert np.isnan(found["flux_psf"].value[2])
    assert found["psf_status"][2] == "no pixels"
    assert found["psf_flags"][2] & fl.NO_DATA
    free = frame.photometer(empty, method=psf, options={"positions": "free"})
    assert free["x_psf_error"].value[1] > 0


def test_photutils_agrees_within_what_its_weights_cost(sources, measured):
    few = sources.select(np.arange(len(sources)) < 60)
    ours = few.photometer(method=measured.psf)
    theirs = few.photometer(method=measured.psf, options={"engine": "photutils"})
    gap = (ours["flux_psf"] - theirs["flux_psf"]).value / ours["flux_psf_error"].value
    assert np.nanmedian(np.abs(gap)) < 2
    assert np.nanmedian(np.hypot(*((ours[n] - theirs[n]).value for n in ("x_psf", "y_psf")))) < 0.02


def test_photutils_finds_stars_beneath_others_too():
    rng = np.random.default_rng(17)
    side, step = 130, 26
    y, x = (part.ravel() + rng.uniform(-0.5, 0.5, 25) for part in np.mgrid[13:side:step, 13:side:step])
    turn = rng.uniform(0, 2 * np.pi, 12)
    apart = 1.0 * 3.0  # one FWHM
    beneath = x[:12] + apart * np.cos(turn), y[:12] + apart * np.sin(turn)
    every = np.append(x, beneath[0]), np.append(y, beneath[1])
    flux = np.append(np.full(25, 4e4), np.full(12, 8e3))
    light = larun.simulate.render((side, side), *every, flux, fwhm=3.0, beta=4.0)
    data = larun.simulate.noisy(light + 100, read_noise=5.0, rng=rng)
    frame = larun.Frame.from_arrays(data, variance=light + 125, unit="electron", gain=1.0)
    known = frame.detect(fwhm=3.0)
    psf = frame.psf(known, model="moffat")
    bits = frame.flags.copy()
    bits[:10, :10] = fl.BAD
    frame = frame.with_planes(flags=bits)
    start = np.append(np.column_stack([x, y]), [[0.0, 0.0], [-9.0, 4.0]], axis=0)
    ours, theirs = (
        frame.photometer(start, method=psf, options={"crowded": True, "positions": "free", "engine": engine})
        for engine in ("larun", "photutils")
    )
    assert len(theirs) == 27
    assert (theirs["psf_status"][-2:] == "no pixels").all()
    gap = (ours["flux_psf"] - theirs["flux_psf"]).value / ours["flux_psf_error"].value
    assert np.nanmedian(np.abs(gap)) < 1.0
    assert np.sum(np.abs(gap[:25]) > 1.5) <= 1  # photutils does not see one of those beneath
    assert ours.provenance.step.fitted["beneath"] == 12
    assert np.median(theirs["flux_psf"].value[:12]) == pytest.approx(4e4, rel=0.03)
    alone = frame.photometer(start, method=psf, options={"positions": "free", "engine": "photutils"})
    assert np.median(alone["flux_psf"].value[:12]) > 1.06 * 4e4  # with the light of those beneath
    assert theirs.provenance.step.fitted["beneath"] >= 11

    deep = known.photometer(method=psf, options={"engine": "photutils", "crowded": True})
    new = deep.select(deep["psf_status"] == "beneath another")
    at = np.column_stack([new["x_psf"].value, new["y_psf"].value])
    away = np.min(np.hypot(at[:, 0][None] - beneath[0][:, None], at[:, 1][None] - beneath[1][:, None]), axis=1)
    assert np.sum(away < 0.5) >= 11
    assert len(new) < 16


def test_saturated_cores_are_masked():
    frame, x, y = field(4)
    data, bits = frame.data.copy(), frame.flags.copy()
    j, i = round(y[5]), round(x[5])
    data[j - 1 : j + 2, i - 1 : i + 2], bits[j - 1 : j + 2, i - 1 : i + 2] = 900.0, fl.SATURATED
    clipped = frame.with_planes(data=data, flags=bits)
    found = clipped.photometer(np.array([[x[5], y[5]]]), method="psf", options={"positions": "free"})
    error = found["flux_psf_error"].value[0]
    assert abs(found["flux_psf"].value[0] - 4e4) < max(5 * error, 1500)
    assert found["psf_share"][0] < 0.8
    assert found["psf_flags"][0] & fl.SATURATED


@pytest.mark.parametrize(("angle", "shift"), [(0.0, (0.5, 0.5)), (5.0, (0.2, 0.7))])
def test_acceptance_23_psf_errors_hold_on_resampled_frames(angle, shift):
    side, rng = 800, np.random.default_rng(9)
    y, x = (part.ravel() + rng.uniform(-0.5, 0.5, 1444) for part in np.mgrid[20:780:20, 20:780:20])
    flux = np.where(np.arange(x.size) % 12 == 0, 6e4, 4e3)
    light = larun.simulate.render((side, side), x, y, flux, fwhm=3.2, beta=4.0)
    data = larun.simulate.noisy(light + 150, read_noise=6.0, rng=rng)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def cards(turned):
        c, s = (cos, sin) if turned else (1.0, 0.0)
        middle = (400.0 + (shift[0] if turned else 0), 400.0 + (shift[1] if turned else 0))
        made = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 0.0}
        made |= {"CRPIX1": middle[0], "CRPIX2": middle[1], "CD1_1": -c * 1e-4, "CD1_2": s * 1e-4}
        return made | {"CD2_1": s * 1e-4, "CD2_2": c * 1e-4}

    frame = larun.Frame.from_arrays(
        data, variance=np.maximum(data, 0) + 36, unit="electron", gain=1.0, header=cards(False)
    )
    target = larun.Frame.from_arrays(np.zeros((side, side)), header=cards(True))
    aligned = frame.align_to(target, method="wcs")
    sky = frame.wcs.pixel_to_world(x, y)
    at = np.column_stack(target.wcs.world_to_pixel(sky))
    inside = (at.min(axis=1) > 15) & (at.max(axis=1) < side - 16)
    at, true = at[inside], flux[inside]
    found = aligned.photometer(at, method="psf", options={"positions": "free"})
    faint = (true < 1e4) & (found["psf_flags"] == 0)
    assert faint.sum() > 900
    value, error = found["flux_psf"].value[faint], found["flux_psf_error"].value[faint]
    scatter = width(value - np.median(value))
    assert abs(np.median(error) / scatter - 1) < 0.05 + 1 / math.sqrt(
        faint.sum()
    )  # 5 %, and what the scatter is known to
    bright = (true > 1e4) & (found["psf_flags"] == 0)
    pull = found["flux_psf"].value[bright] - np.median(found["flux_psf"].value[bright])
    assert 0.75 < width(pull / found["flux_psf_error"].value[bright]) < 1.35  # 100 stars


def test_any_number_of_threads_gives_the_same_bits(sources):
    made = []
    for count in (1, 3):
        set_threads(count)
        made.append(sources.photometer(method="psf", options={"crowded": True}))
    set_threads(None)
    assert made[0].identical(made[1])


def test_it_is_written_read_attached_and_made_again(crowd, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    header = fits.Header({"EXPTIME": 10.0, "GAIN": 1.0, "RDNOISE": 5.0, "OBJECT": "field", "IMAGETYP": "object"})
    fits.writeto(raw / "a.fits", np.round(crowd[0].data).astype(np.int16), header)
    frame = larun.Frame.read(raw / "a.fits")
    found = frame.detect()
    psf = frame.psf(found, model="moffat")
    ways = {
        "own": found.photometer(method="psf", options={"crowded": True}),
        "given": found.photometer(method=psf, sky="fitted"),
        "forced": frame.photometer(np.array([[30.0, 40.0], [100.0, 120.0]]), method=psf),
    }
    for name, catalog in ways.items():
        for suffix in (".ecsv", ".fits"):
            path = catalog.write(tmp_path / f"{name}{suffix}")
            again = larun.SourceCatalog.read(path)
            assert again.identical(catalog)
            assert again.psf is None
        replayed = larun.replay(tmp_path / f"{name}.ecsv", raw)
        assert replayed.equal, (name, str(replayed))
    kept = pickle.loads(pickle.dumps(ways["given"]))
    assert kept.psf is None
    rest = kept.attach(frame).residual(psf)
    assert np.array_equal(rest.data, ways["given"].residual().data)
    path = ways["given"].residual().write(tmp_path / "rest.fits")
    assert larun.replay(path, raw).equal


def test_a_recipe_asks_for_it(crowd):
    recipe = larun.Recipe.from_text('[photometer]\nmethod = "psf"\n[photometer.options]\ncrowded = true\n')
    again = larun.Recipe.from_text(recipe.to_toml(short=True))
    assert again == recipe
    made = recipe.measure(crowd[0])
    assert (made["psf_status"] == "beneath another").any()
    for wrong, said in (
        ('method = "prf"', "must be 'aperture', 'psf'"),
        ('method = "psf"\nradii = [3.0]', "belongs to apertures"),
        ('method = "psf"\nsky = "annulus"', "with method='psf'"),
    ):
        with pytest.raises(OptionError, match=said):
            larun.Recipe.from_text(f"[photometer]\n{wrong}\n")


def test_senseless_options_are_refused(crowd, sources):
    for options, said in (
        ({"positions": "loose"}, "must be 'free' or 'fixed'"),
        ({"engine": "daophot"}, "must be 'larun' or 'photutils'"),
        ({"threshold": 1}, "threshold"),
        ({"passe": 1}, "has no passe"),
    ):
        with pytest.raises(OptionError, match=said):
            sources.photometer(method="psf", options=options)
    with pytest.raises(OptionError, match="belongs to apertures"):
        sources.photometer((3.0,), method="psf")
    with pytest.raises(OptionError, match="are for method='psf'"):
        crowd[0].photometer([[1.0, 2.0]], options={"positions": "free"})
    assert sources.image.shape == (SIDE, SIDE)
