"""Light curves of simulated nights whose truth is known, and of a real one."""

import numpy as np
import pytest

import larun
from larun import flags as fl
from larun.algorithms.scene import SceneOptions
from larun.errors import CatalogError, FileError, LarunWarning, NotAligned, OptionError
from larun.model.replay.compare import differences
from tests.model.curves import nights

QUICK = larun.LightCurveOptions(clean="none", radius=5.0)


@pytest.fixture(scope="module")
def night():
    return nights.night(1)


@pytest.fixture(scope="module")
def curve(night):
    return larun.LightCurve.extract(night.frames, night.targets)


def pulls(made, truth, targets=None):
    """Fluxes against the truth, both over their weighted mean, in units of their errors."""
    found = []
    for k in range(truth.relative.shape[1]):
        own = made.curve(k + 1)
        good = made.good(k + 1)
        flux, error = np.asarray(own["flux"])[good], np.asarray(own["flux_error"])[good]
        ratio, weight = flux / truth.relative[good, k], 1 / error**2
        found.append((ratio / np.average(ratio, weights=weight) - 1) / error)
    return np.concatenate(found)


def test_fluxes_and_errors_are_those_of_the_truth(night, curve):
    assert curve.targets == 6
    assert [str(role) for role in curve.stars.colnames[:2]] == ["star", "x"]
    away = pulls(curve, night)
    assert len(away) > 200
    assert np.std(away) == pytest.approx(1.0, abs=0.1)
    assert np.max(np.abs(away)) < 4.5


@pytest.mark.slow
def test_depths_are_right_and_so_are_their_errors():
    found = []
    for seed in range(6):
        truth = nights.night(100 + seed)
        made = larun.LightCurve.extract(truth.frames, truth.targets, options=QUICK)
        for k in range(truth.relative.shape[1]):
            own = made.curve(k + 1)
            flux, error = np.asarray(own["flux"]), np.asarray(own["flux_error"])
            shape = (1 - truth.relative[:, k]) / nights.DEPTH
            # flux = level (1 - depth shape), by weighted least squares
            weight = 1 / error**2
            normal = np.array(
                [[np.sum(weight), np.sum(weight * shape)], [np.sum(weight * shape), np.sum(weight * shape**2)]]
            )
            level, slope = np.linalg.solve(normal, [np.sum(weight * flux), np.sum(weight * shape * flux)])
            spread = np.sqrt(np.linalg.inv(normal)[1, 1]) / level
            found.append((-slope / level - nights.DEPTH) / spread)
    assert np.mean(found) == pytest.approx(0, abs=3 / np.sqrt(len(found)))
    assert np.std(found) == pytest.approx(1.0, abs=0.36)  # three sigma of 36 depths


def test_a_variable_comparison_star_is_left_out(night, curve):
    stars = curve.stars
    x, y = night.x[-1], night.y[-1]
    nearest = int(np.argmin(np.hypot(stars["x"] - x, stars["y"] - y)))
    assert np.hypot(stars["x"] - x, stars["y"] - y)[nearest] < 1
    assert not stars["used"][nearest]
    assert str(curve.curve(nearest + 1)["role"][0]) == "rejected"
    own = curve.curve(nearest + 1)
    phase = np.linspace(0, 1, len(own))
    assert np.corrcoef(np.asarray(own["flux"]), np.sin(12 * phase))[0, 1] > 0.95  # its light curve is there
    assert stars["used"].sum() >= len(night.x) - 6 - 3


def test_a_target_is_never_compared_with_itself(night):
    made = larun.LightCurve.extract(
        night.frames[::4], night.targets[:1], comparison=np.column_stack([night.x, night.y]), options=QUICK
    )
    assert len(made.stars) == len(night.x)
    x, y = made.stars["x"], made.stars["y"]
    assert np.hypot(x[1:] - x[0], y[1:] - y[0]).min() > 10


def test_a_change_over_the_image_is_a_plane(night):
    options = larun.LightCurveOptions(clean="none", radius=5.0, field="constant")
    level = larun.LightCurve.extract(night.frames, night.targets, options=options)
    steep = nights.night(2, slope=0.06)
    found = larun.LightCurve.extract(steep.frames, steep.targets, options=QUICK)
    assert found.meta["field"] == "plane"
    assert np.std(pulls(found, steep)) == pytest.approx(1.0, abs=0.1)
    assert level.meta["field"] == "constant"


def test_order_and_threads_decide_nothing(night, curve):
    larun.set_threads(1)
    try:
        again = larun.LightCurve.extract(night.frames[::-1], night.targets, reference=night.frames[0])
    finally:
        larun.set_threads(2)
    assert differences(curve, again) == ()
    assert again.provenance.id == curve.provenance.id


def test_a_cosmic_ray_on_the_target_is_flagged_and_nothing_is_replaced(night):
    number, k = 7, 5
    x, y = (night.targets[k] + night.offsets[number] - night.offsets[0]).round().astype(int)
    hit = night.frames[number]
    data = hit.data.copy()
    data[y + 3, x - 2 : x + 2] += 9000.0
    struck = larun.Frame.from_arrays(data, variance=hit.variance, unit="electron", header=hit.header)
    frames = [*night.frames[:number], struck, *night.frames[number + 1 :]]
    made = larun.LightCurve.extract(frames, night.targets, options=larun.LightCurveOptions(radius=5.0))
    own = made.curve(k + 1)
    assert int(own["flags"][number]) & fl.COSMIC
    assert not made.good(k + 1)[number]
    assert made.good(k + 1).sum() >= len(frames) - 3
    assert made.meta["cosmic_rays"] == "flagged, not replaced"
    ignored = larun.LightCurve.extract(frames, night.targets, options=QUICK)
    assert float(ignored.curve(k + 1)["flux"][number]) > 1.05  # what it would have been


def test_the_light_on_a_bad_pixel_is_put_back_and_its_error_grows():
    truth = nights.night(8, frames=16, targets=4, variable=False)
    bad = np.zeros(nights.SHAPE, np.uint32)
    for k, (x, y) in enumerate(truth.targets):
        bad[round(y) + k % 2, round(x) + 2] = fl.BAD  # in the wings, and the stars drift over them
    frames = []
    for frame in truth.frames:
        data, more = np.where(bad > 0, 60000, frame.data), {"variance": frame.variance, "header": frame.header}
        frames.append(larun.Frame.from_arrays(data, flags=bad, unit="electron", **more))
    made = larun.LightCurve.extract(frames, truth.targets, options=QUICK)
    bits = np.array([np.asarray(made.curve(k + 1)["flags"]) for k in range(4)])
    mended = (bits & fl.INTERPOLATED) != 0
    assert mended.sum() > 15
    assert ((bits & fl.BAD) != 0)[mended].all()
    away = pulls(made, truth)
    assert np.std(away) == pytest.approx(1.0, abs=0.25)
    assert np.max(np.abs(away)) < 4.5
    spread = np.array([np.asarray(made.curve(k + 1)["flux_error"]) for k in range(4)])
    good = np.array([made.good(k + 1) for k in range(4)])
    assert (good & mended).sum() == mended.sum()
    sure = good & ((bits & fl.BAD) == 0)
    assert np.max(spread[3][mended[3]]) > 1.3 * np.median(spread[3][sure[3]] if sure[3].any() else [0.002])
    alone = ((bits & fl.BAD) != 0) & ~mended
    assert not good[alone].any()  # too much of the light is hidden


def test_a_star_on_static_light_is_fitted_with_it():
    truth = nights.night(12, frames=9, targets=3, variable=False)
    made = larun.LightCurve.extract(truth.frames, truth.targets, options=QUICK)
    found = made.scene(truth.frames[::-1], star=3, options=SceneOptions(reach=4))
    wanted = truth.relative[:, 2] * truth.flux[2]
    assert np.sum(found.flux) == pytest.approx(0, abs=1e-3)
    # on the scale of the mean zero point: a per cent of the light is a per cent
    scale = np.median(np.asarray(made.curve(3)["source_flux"].value) * 10 ** (0.4 * made.curve(3)["zero_point"].value))
    ratio = (found.flux + scale) / scale
    assert np.std(ratio / (wanted / wanted.mean()) - 1) < 2.5 * np.median(found.error) / scale
    assert np.corrcoef(found.flux, wanted)[0, 1] > 0.6
    with pytest.raises(OptionError, match="give all of them"):
        made.scene(truth.frames[:4])
    with pytest.raises(OptionError, match="is none of the frames"):
        made.scene([nights.night(13, frames=1).frames[0]])


def test_written_and_read_it_is_identical(curve, tmp_path):
    for name in ("a.ecsv", "a.fits"):
        path = curve.write(tmp_path / name)
        assert larun.LightCurve.read(path).identical(curve)
    sources = larun.SourceCatalog.from_table(_table())
    sources.write(tmp_path / "b.ecsv")
    with pytest.raises(FileError, match="no light curve"):
        larun.LightCurve.read(tmp_path / "b.ecsv")


def _table():
    from astropy.table import QTable

    return QTable({"x": [1.0], "y": [2.0]})


def test_it_is_replayed_from_its_frames(night):
    from larun.model.replay.calls import Functions, Input, carry_out

    made = larun.LightCurve.extract(
        night.frames[:12], night.targets[:2], coordinates=[[10, 20], [10.1, 20]], options=QUICK
    )
    step, parents = made.provenance.step, made.provenance.parents
    by_id = {frame.provenance.id: frame for frame in night.frames}
    inputs = [Input(parent.role, parent.provenance.id, by_id[parent.provenance.id]) for parent in parents]
    again = carry_out(step, inputs, Functions())
    assert differences(made, again) == ()
    assert again.provenance.id == made.provenance.id


def test_times_are_barycentric_where_coordinates_are_known(night):
    plain = larun.LightCurve.extract(night.frames[:8], night.targets[:1], options=QUICK)
    assert not plain.barycentric
    assert "JD in UTC" in plain.meta["time"]
    assert plain.time()[0] == pytest.approx(nights.START, abs=1e-6)
    known = larun.LightCurve.extract(night.frames[:8], night.targets[:1], coordinates=(286.04, 36.63), options=QUICK)
    assert known.barycentric
    wanted = [frame.time.bjd_tdb((286.04, 36.63)) for frame in night.frames[:8]]
    assert known.time() == pytest.approx(wanted, abs=1e-9)


def test_scintillation_is_in_the_errors_where_the_telescope_is_known(night):
    options = larun.LightCurveOptions(clean="none", radius=5.0, diameter=0.2)
    small = larun.LightCurve.extract(night.frames[:10], night.targets[:1], options=options)
    plain = larun.LightCurve.extract(night.frames[:10], night.targets[:1], options=QUICK)
    both = [np.median(np.asarray(one.curve()["flux_error"])) for one in (plain, small)]
    assert both[1] > both[0]
    assert small.meta["scintillation"][0] == pytest.approx(np.sqrt(1e-5 * 1.5**2 * 0.2 ** (-4 / 3) / 60), rel=1e-6)
    assert "lower limit" in small.meta["scintillation_note"]


def test_a_frame_of_another_field_is_left_out(night):
    rng = np.random.default_rng(9)
    x, y = nights.grid(rng)
    other = nights.frame(nights.picture(x, y, np.full(len(x), 2e5), 3.0), rng, nights.START + 0.5, FILTER="R")
    with pytest.warns(LarunWarning, match="not in the light curve"):
        made = larun.LightCurve.extract([*night.frames[:6], other], night.targets[:1], options=QUICK)
    assert len(made.curve()) == 6
    assert len(made.provenance.step.fitted["rejected"]) == 1
    with pytest.warns(LarunWarning), pytest.raises(NotAligned, match="no frame"):
        larun.LightCurve.extract([other], night.targets[:1], reference=night.frames[0], options=QUICK)


def test_what_cannot_be_measured_is_refused(night):
    raw = larun.Frame.from_arrays(np.ones((64, 64), np.uint16), gain=1.0, read_noise=5.0)
    with pytest.raises(OptionError, match="calibrate frames"):
        larun.LightCurve.extract([raw], [[1, 1]])
    with pytest.raises(OptionError, match="no frames"):
        larun.LightCurve.extract([], [[1, 1]])
    with pytest.raises(OptionError, match="method="):
        larun.LightCurve.extract(night.frames[:2], [[1, 1]], method="magic")
    with pytest.raises(OptionError, match="is not on"):
        larun.LightCurve.extract(night.frames[:3], [[1000, 1]], options=QUICK)
    with pytest.raises(CatalogError, match="WCS"):
        larun.LightCurve.extract(night.frames[:3], _sky(), options=QUICK)
    timeless = larun.Frame.from_arrays(night.frames[0].data, variance=night.frames[0].variance, unit="electron")
    with pytest.raises(OptionError, match="date="):
        larun.LightCurve.extract([timeless], [[1, 1]], options=QUICK)
    other = larun.Frame.from_arrays(
        night.frames[1].data,
        variance=night.frames[1].variance,
        unit="electron",
        header={**dict(night.frames[1].header), "FILTER": "B"},
    )
    with pytest.raises(OptionError, match="filters B, R"):
        larun.LightCurve.extract([night.frames[0], other], [[1, 1]], options=QUICK)
    for name, value in (("radius", 0.0), ("unit", "mile"), ("most", 0), ("diameter", -1.0), ("recentre", "x")):
        with pytest.raises(OptionError, match=name):
            larun.LightCurveOptions(**{name: value})


def _sky():
    from astropy.coordinates import SkyCoord

    return SkyCoord([10.0], [20.0], unit="deg")
