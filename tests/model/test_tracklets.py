"""A moving object and a variable star on three frames: the one is linked, the other is not."""

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.errors import CatalogError, FileError, OptionError
from larun.model.subtracting.moving import COLUMNS
from larun.report.inspect import describe
from tests.algorithms.pair_fields import pair
from tests.plots.conftest import SCALE, wcs_cards

SHAPE = (200, 210)
#: Pixels in the first exposure, pixels an hour.
START, RATE = np.array([60.3, 140.6]), np.array([80.0, -120.0])
VARIABLE = (150.4, 60.2)
MINUTES = (0, 14, 31)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Differences with their candidates, in order of time, and the folder of the raw frames."""
    folder = tmp_path_factory.mktemp("raw")
    field = pair(SHAPE, seed=4, stars=160, change=0.0, brightest=3e5)
    rng = np.random.default_rng(3)
    frames = []
    for number, minutes in enumerate((None, *MINUTES)):
        data = field.reference if minutes is None else field.science + rng.normal(0, 3, SHAPE)
        if minutes is not None:
            x, y = START + RATE * minutes / 60
            light = [6000.0, 5000.0 + 2000 * number]
            data = data + rng.poisson(field.psf.draw(SHAPE, [x, VARIABLE[0]], [y, VARIABLE[1]], light))
        header = fits.Header({"GAIN": 1.0, "RDNOISE": 6.0, "EXPTIME": 60.0, **wcs_cards(SHAPE[1], SHAPE[0])})
        header["DATE-OBS"] = f"2024-03-01T01:{minutes or 0:02d}:00"
        path = folder / f"frame-{number}.fits"
        fits.PrimaryHDU(np.rint(data).clip(0, 65535).astype(np.uint16), header).writeto(path)
        frames.append(larun.Frame.read(path).calibrate(without=("bias", "dark", "flat")))
    reference, *science = frames
    differences = [one.subtract(reference, options=larun.SubtractOptions(order=0)) for one in science]
    return folder, [difference.detect() for difference in differences]


OPTIONS = larun.LinkOptions(max_rate=300.0)


@pytest.fixture(scope="module")
def made(series):
    return larun.Tracklets.link(iter(series[1][::-1]), options=OPTIONS)


def test_the_mover_is_linked_and_the_variable_star_is_not(series, made):
    _, candidates = series
    for catalog in candidates:
        away = np.hypot(catalog["x"].value - VARIABLE[0], catalog["y"].value - VARIABLE[1])
        assert away.min() < 0.5  # it is found each time
    assert set(made.columns) == {column.name for column in COLUMNS}
    [row] = made.table
    assert row["detections"] == 3
    hours = (row["jd_utc"].value - made.meta["jd_utc"][0]) * 24
    place = START + RATE * hours
    assert [row["x"].value, row["y"].value] == pytest.approx(place, abs=4 * row["position_error"].value)
    speed = np.hypot(*RATE)
    assert row["rate"].value == pytest.approx(speed, abs=4 * row["rate_error"].value)
    assert row["rate_error"].value < 1.5
    assert row["angle"].value == pytest.approx(np.degrees(np.arctan2(RATE[1], RATE[0])) % 360, abs=1)
    assert row["sky_rate"].value == pytest.approx(speed * SCALE / 60, rel=0.02)
    wcs = candidates[0].image.wcs
    one, two = (wcs.pixel_to_world(*(START + RATE * t)) for t in (0.0, 0.3))
    assert row["position_angle"].value == pytest.approx(one.position_angle(two).deg, abs=1)
    assert row["flux"].value == pytest.approx(6000, rel=0.1)
    assert row["chi2"] < 5
    assert 0 < row["expected"] < 0.01


def test_members_lead_back_to_the_candidates(series, made):
    members = made.members(1)
    assert list(members["frame"]) == ["frame-1.fits", "frame-2.fits", "frame-3.fits"]
    for member, catalog, minutes in zip(members, series[1], MINUTES, strict=True):
        row = catalog.table[np.asarray(catalog["id"]) == member["id"]][0]
        assert [row["x"].value, row["y"].value] == pytest.approx(START + RATE * minutes / 60, abs=0.5)
    with pytest.raises(CatalogError, match="tracklet=2"):
        made.members(2)


@pytest.mark.parametrize("suffix", ["ecsv", "fits", "vot"])
def test_it_is_written_read_and_made_again_from_the_raw_files(series, made, tmp_path, suffix):
    path = made.write(tmp_path / f"moving.{suffix}")
    assert larun.Tracklets.read(path).identical(made)
    assert describe(path)["class"].endswith(":Tracklets")
    if suffix == "ecsv":
        assert larun.replay(path, raw=series[0]).equal
    with pytest.raises(FileError, match="holds no tracklets"):
        larun.Tracklets.read(series[1][0].write(tmp_path / f"candidates.{suffix}"))


def test_none_is_a_table_too(series, tmp_path):
    none = larun.Tracklets.link(series[1], options=larun.LinkOptions(max_rate=20.0))
    assert len(none) == 0
    assert "members" not in none.columns
    assert larun.Tracklets.read(none.write(tmp_path / "none.ecsv")).identical(none)
    assert "0 objects on 3 differences" in repr(none)


def test_what_cannot_be_linked_is_refused(series, tmp_path):
    _, candidates = series
    with pytest.raises(OptionError, match="none to link"):
        larun.Tracklets.link([])
    with pytest.raises(OptionError, match="there twice"):
        larun.Tracklets.link([candidates[0], candidates[0]])
    again = larun.SourceCatalog.read(candidates[0].write(tmp_path / "one.ecsv"))
    with pytest.raises(CatalogError, match="attach"):
        larun.Tracklets.link([again])
    assert len(larun.Tracklets.link([again.attach(candidates[0].image), *candidates[1:]], options=OPTIONS)) == 1
    with pytest.raises(CatalogError, match="has no"):
        larun.Tracklets.link([candidates[0].image.forced([[50.0, 50.0]])])
