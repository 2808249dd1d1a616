"""Light curves by point-spread functions: simulated series whose truth is known, blends, and a real night."""

import numpy as np
import pytest

import larun
from larun import flags as fl
from larun.algorithms.rednoise import point_to_point
from larun.errors import CatalogError, LarunWarning, OptionError
from larun.model.replay.compare import differences
from tests.conftest import real_data
from tests.model.curves import nights
from tests.model.curves.test_lightcurve import pulls

QUICK = larun.LightCurveOptions(clean="none")
APART = 1.2  # FWHM between the target of a blend and its neighbour


@pytest.fixture(scope="module")
def night():
    return nights.night(1, frames=16)


@pytest.fixture(scope="module")
def curve(night):
    return larun.LightCurve.extract(night.frames, night.targets, method="psf", options=QUICK)


def blended(seed, frames=14, targets=5):
    """A night whose targets have a brighter neighbour each, while the seeing changes by a half; thin cloud."""
    rng = np.random.default_rng(seed)
    x, y = nights.grid(rng)
    order = rng.permutation(len(x))
    x, y = x[order], y[order]
    flux = rng.uniform(6e4, 3e5, len(x))
    flux[:targets] = np.geomspace(1e5, 2e5, targets)
    turn = rng.uniform(0, 2 * np.pi, targets)
    x = np.append(x, x[:targets] + APART * 3.0 * np.cos(turn))
    y = np.append(y, y[:targets] + APART * 3.0 * np.sin(turn))
    flux = np.append(flux, 1.2 * flux[:targets])
    phase = np.linspace(0, 1, frames)
    relative = np.tile(nights.box(phase, 0.03)[:, None], (1, targets))
    width = 3.0 * (1 + 0.25 * np.sin(9 * phase))
    shifts = rng.normal(0, 0.6, (frames, 2))
    made = []
    for k in range(frames):
        light = flux * 10 ** (-0.4 * rng.normal(0, 0.03))
        light[:targets] *= relative[k]
        image = nights.picture(x + shifts[k, 0], y + shifts[k, 1], light, width[k])
        made.append(nights.frame(image, rng, nights.START + 0.12 * phase[k]))
    return nights.Night(made, x + shifts[0, 0], y + shifts[0, 1], flux, relative, shifts)


def test_fluxes_and_errors_are_those_of_the_truth(night, curve):
    away = pulls(curve, night)
    assert len(away) == 6 * 16
    assert 0.9 < np.std(away) < 1.15
    assert np.max(np.abs(away)) < 4.5
    assert np.isnan(np.asarray(curve.curve()["radius"].value)).all()
    assert curve.meta["psf"]["models"] == ["empirical"]
    assert "aperture" not in curve.meta


def test_faint_stars_have_errors_no_larger_than_in_apertures(night, curve):
    apertures = larun.LightCurve.extract(night.frames, night.targets, options=QUICK)
    both = [np.median(np.asarray(one.curve()["flux_error"])) for one in (curve, apertures)]
    assert both[0] < both[1]


def test_neighbours_are_fitted_with_the_targets_and_an_aperture_sees_them_come_and_go():
    truth = blended(3)
    one, other = (
        larun.LightCurve.extract(truth.frames, truth.targets, method=method, options=options)
        for method, options in (("psf", QUICK), ("aperture", larun.LightCurveOptions(clean="none", radius=3.0)))
    )
    assert one.meta["psf"]["neighbours"] >= 5
    away = pulls(one, truth)
    assert len(away) == 5 * 14
    assert 0.9 < np.std(away) < 1.15
    depths, errors = [], []
    for k in range(5):
        flux, error = (np.asarray(one.curve(k + 1)[name]) for name in ("flux", "flux_error"))
        out, within = (truth.relative[:, k] == level for level in (1.0, 0.97))
        depths.append(1 - np.mean(flux[within]) / np.mean(flux[out]))
        errors.append(np.median(error) * np.sqrt(1 / within.sum() + 1 / out.sum()))
        spread = [np.std(np.asarray(made.curve(k + 1)["flux"]) / truth.relative[:, k]) for made in (one, other)]
        assert spread[1] > 2 * spread[0]
        # the light itself, not only its changes, against that of stars that are alone
        source = 10 ** (0.4 * one.curve(k + 1)["zero_point"].value) * one.curve(k + 1)["source_flux"].value
        assert np.median(source / truth.relative[:, k]) == pytest.approx(truth.flux[k], rel=0.05)
    assert np.mean(depths) == pytest.approx(0.03, abs=3 * np.mean(errors) / np.sqrt(5))


def test_given_psfs_are_inputs_and_the_record_is_carried_out_again(night):
    from larun.model.replay.calls import Functions, Input, carry_out

    frames = night.frames[:4]
    psfs = [frame.psf() for frame in frames]
    own = larun.LightCurve.extract(frames[:3], night.targets[:2], method="psf", options=QUICK)
    made = larun.LightCurve.extract(frames, night.targets[:2], method=psfs, options=QUICK)
    again = larun.LightCurve.extract(
        frames[::-1], night.targets[:2], method=psfs[::-1], reference=frames[0], options=QUICK
    )
    few, all_ = (np.asarray(curve.curve()["source_flux"].value)[:3] for curve in (own, made))
    assert few == pytest.approx(all_, rel=1e-3)  # the annulus is that of the median FWHM
    assert differences(made, again) == ()
    assert again.provenance.id == made.provenance.id != own.provenance.id
    for curve in (own, made):
        known = {one.provenance.id: one for one in [*frames, *psfs]}
        inputs = [Input(one.role, one.provenance.id, known[one.provenance.id]) for one in curve.provenance.parents]
        replayed = carry_out(curve.provenance.step, inputs, Functions())
        assert differences(curve, replayed) == ()
        assert replayed.provenance.id == curve.provenance.id
    one = larun.LightCurve.extract(frames, night.targets[:2], method=psfs[0], options=QUICK)
    assert len([parent for parent in one.provenance.parents if parent.role == "psf"]) == 1


def test_what_a_frame_shows_wrongly_is_flagged_and_never_replaced(night):
    frames = list(night.frames[:8])
    shift = night.offsets - night.offsets[0]
    saturated, struck, bad = 2, 4, 6
    for number, bit, (dx, dy) in ((saturated, fl.SATURATED, (0, 0)), (bad, fl.BAD, (2, 1))):
        flags = np.zeros(nights.SHAPE, np.uint32)
        x, y = (night.targets[5] + shift[number]).round().astype(int)
        flags[y + dy, x + dx] = bit
        data = np.where(flags > 0, np.float32(60000), frames[number].data)
        more = {"variance": frames[number].variance, "unit": "electron", "header": frames[number].header}
        frames[number] = larun.Frame.from_arrays(data, flags=flags, **more)
    x, y = (night.targets[5] + shift[struck]).round().astype(int)
    data = frames[struck].data.copy()
    data[y + 2, x - 2 : x + 2] += 9000.0
    frames[struck] = larun.Frame.from_arrays(
        data, variance=frames[struck].variance, unit="electron", header=frames[struck].header
    )
    made = larun.LightCurve.extract(frames, night.targets, method="psf")
    bits, good = np.asarray(made.curve(6)["flags"]), made.good(6)
    assert bits[saturated] & fl.SATURATED
    assert bits[struck] & fl.COSMIC
    assert not good[saturated]
    assert not good[struck]
    assert good[bad]
    assert bits[bad] & fl.BAD
    assert bits[bad] & fl.INTERPOLATED
    away = np.asarray(made.curve(6)["flux"]) / night.relative[:8, 5]
    error = np.asarray(made.curve(6)["flux_error"])
    level = np.median(away[good])
    assert np.max(np.abs(away - level)[good] / error[good]) < 4.5  # the bad pixel costs nothing
    assert made.meta["cosmic_rays"] == "flagged, not replaced"


@pytest.mark.filterwarnings("ignore:.*too few stars to measure:larun.errors.LarunWarning")
def test_a_frame_that_gives_no_psf_is_left_out_with_the_reason(night):
    frames = list(night.frames[:6])
    masked = np.zeros(nights.SHAPE, np.uint32)
    for x, y in np.column_stack([night.x, night.y]) + night.offsets[3] - night.offsets[0]:
        masked[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2] = fl.SATURATED
    more = {"variance": frames[3].variance, "unit": "electron", "header": frames[3].header}
    frames[3] = larun.Frame.from_arrays(frames[3].data, flags=masked, **more)
    with pytest.warns(LarunWarning, match="gives no PSF"):
        made = larun.LightCurve.extract(frames, night.targets[:1], method="psf", options=QUICK)
    assert len(made.curve()) == 5
    (lost,) = made.provenance.step.fitted["rejected"]
    assert lost["reason"].startswith("no PSF: ")
    with pytest.raises(CatalogError, match="is the reference"), pytest.warns(LarunWarning):
        larun.LightCurve.extract(frames, night.targets[:1], reference=frames[3], method="psf", options=QUICK)


def test_what_makes_no_sense_is_refused(night):
    frames = night.frames[:3]
    with pytest.raises(OptionError, match="belongs to apertures"):
        larun.LightCurve.extract(
            frames, night.targets[:1], method="psf", options=larun.LightCurveOptions(radius=4.0, clean="none")
        )
    psf = frames[0].psf()
    for wrong, text in (([psf, psf], "2 PSFs for 3 frames"), ([1, 2, 3], "must be"), ([], "must be")):
        with pytest.raises(OptionError, match=text):
            larun.LightCurve.extract(frames, night.targets[:1], method=wrong, options=QUICK)


def test_order_and_threads_decide_nothing(night, curve):
    larun.set_threads(1)
    try:
        again = larun.LightCurve.extract(
            night.frames[::-1], night.targets, reference=night.frames[0], method="psf", options=QUICK
        )
    finally:
        larun.set_threads(2)
    assert differences(curve, again) == ()
    assert again.provenance.id == curve.provenance.id


def test_it_is_written_read_and_told(curve, tmp_path):
    from larun.report import lightcurve as report

    for name in ("a.ecsv", "a.fits"):
        path = curve.write(tmp_path / name)
        assert larun.LightCurve.read(path).identical(curve)
    curve.write_measurements(tmp_path / "a.tbl")
    text = "\n".join(report.lines(curve))
    assert "light: by the PSF of each frame (empirical, FWHM 2." in text


@pytest.mark.slow
def test_the_star_of_tres1_scatters_no_more_than_in_apertures():
    folder = real_data("tres1")
    darks = larun.MasterDark.combine(sorted(folder.glob("*d.fit.fz")))
    paths = sorted(folder.glob("tres1-???.fit.fz"))[14:30:2]
    frames = [larun.Frame.read(path).calibrate(darks, without=("bias", "flat")) for path in paths]
    middle = larun.Frame.read(folder / "tres1-125.fit.fz").calibrate(darks, without=("bias", "flat"))
    scatter = {}
    for method in ("aperture", "psf"):
        made = larun.LightCurve.extract(frames, [[634.2, 249.7]], reference=middle, method=method)
        good = made.good()
        assert good.sum() >= len(frames) - 1
        used = [star for star in made.meta["stars"] if star["used"]][:12]
        scatter[method] = np.median([star["point_to_point"] / star["predicted"] for star in used])
        assert point_to_point(np.asarray(made.curve()["flux"])[good]) < 0.009
        spread = [np.median(np.asarray(made.curve(k)["flux_error"])) for k in (1, 2)]
        assert min(spread) > 0.001
    assert scatter["psf"] < 1.15 * scatter["aperture"]
    assert scatter["psf"] < 1.4
