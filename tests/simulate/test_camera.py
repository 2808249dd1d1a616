"""The camera: impossible ones raise, the header is true, the chip repeats itself."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from larun.errors import OptionError
from larun.simulate import Camera


@pytest.mark.parametrize(
    "values",
    [
        {"gain": 0.0},
        {"gain": -1.0},
        {"gain": float("nan")},
        {"read_noise": -1.0},
        {"saturation": 70000.0},
        {"saturation": 500.0},
        {"saturation": 60000.5},
        {"shape": (8, 100)},
        {"overscan": -1},
        {"hot_fraction": 1.0},
        {"dead_columns": (100,)},
        {"filters": ()},
        {"filters": ("V", "V")},
        {"filters": ("../V",)},
        {"pixel_scale": 0.0},
    ],
)
def test_impossible_cameras_raise(values):
    with pytest.raises(OptionError):
        Camera(**{"shape": (100, 100), **values})


def test_header_says_what_the_camera_is():
    camera = Camera(shape=(100, 200), overscan=16, gain=1.7, read_noise=5.5, saturation=50000.0)
    header = camera.header("flat", exposure=2.5, band="R", date_obs="2026-03-14T23:59:59.500")
    wanted = {
        "INSTRUME": "larun simulated camera",
        "IMAGETYP": "flat",
        "EXPTIME": 2.5,
        "FILTER": "R",
        "GAIN": 1.7,
        "RDNOISE": 5.5,
        "SATURATE": 50000.0,
        "DATASEC": "[1:200,1:100]",
        "TRIMSEC": "[1:200,1:100]",
        "BIASSEC": "[201:216,1:100]",
        "CCD-TEMP": -100.0,
        "XBINNING": 1,
        "YBINNING": 1,
        "DATE-OBS": "2026-03-14T23:59:59.500",
    }
    assert {key: header[key] for key in wanted} == wanted
    assert header["MJD-OBS"] == pytest.approx(61113 + 86399.5 / 86400, abs=1e-9)
    assert "FILTER" not in camera.header("bias")
    assert "BIASSEC" not in Camera(shape=(100, 200), overscan=0).header("bias")


@pytest.mark.parametrize(
    ("kind", "values"),
    [("light", {}), ("flat", {"band": "z"}), ("dark", {"exposure": -1.0}), ("bias", {"date_obs": "yesterday"})],
)
def test_impossible_headers_raise(kind, values):
    with pytest.raises(OptionError):
        Camera().header(kind, **values)


def test_wcs_puts_the_centre_in_the_middle_of_the_data_and_has_the_pixel_scale():
    camera = Camera(shape=(100, 200), overscan=16, pixel_scale=0.5)
    wcs = WCS(fits.Header(camera.wcs_cards((30.0, -20.0))))
    assert wcs.pixel_to_world_values(99.5, 49.5) == pytest.approx((30.0, -20.0), abs=1e-12)
    ra, dec = wcs.pixel_to_world_values([99.5, 98.5], [50.5, 49.5])
    assert dec[0] == pytest.approx(-20.0 + 0.5 / 3600, abs=1e-9)
    assert ra[1] == pytest.approx(30.0 + 0.5 / 3600 / np.cos(np.radians(20.0)), abs=1e-9)


def test_chip_repeats_itself_and_is_what_the_camera_says():
    camera = Camera(shape=(300, 400), dead_columns=(100,), hot_fraction=2e-3)
    chip = camera.chip(seed=3)
    again, other = camera.chip(seed=3), camera.chip(seed=4)
    np.testing.assert_array_equal(chip.dark, again.dark)
    np.testing.assert_array_equal(chip.response["V"], again.response["V"])
    assert (chip.dark != other.dark).any()
    assert chip.hot.mean() == pytest.approx(2e-3, rel=0.25)  # 240 pixels expected, 6.5 % rms
    assert chip.dark[chip.hot].min() > 5
    assert chip.dark[~chip.hot].mean() == pytest.approx(camera.dark_rate, rel=0.01)
    live = np.arange(400) != 100
    for band in camera.filters:
        assert (chip.response[band][:, 100] == 0).all()
        assert chip.response[band][:, live].mean() == pytest.approx(1.0, abs=1e-6)
        assert chip.response[band][:20, :20].mean() < 0.93 * chip.response[band][140:160, 190:210].mean()


def test_resized_camera_keeps_dead_columns_in_place_and_survives_json():
    camera = Camera(shape=(1024, 1024), dead_columns=(512, 1023))
    small = camera.resized((64, 128))
    assert small.shape == (64, 128)
    assert small.dead_columns == (64, 127)
    assert Camera.from_dict(small.to_dict()) == small
