"""When, where and how high: every real header, against values derived from it by hand.

The middle is the begin that the header states (in UTC; 35 s, 33 s or 32 s taken off where it is TAI) and half of its
exposure time, added on paper; the pointing is its own right ascension and declination in degrees; the air mass is what
the observatory computed, or 1/sin of the altitude it wrote down. Sites are those of the observatories.
"""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time

import larun
from larun.io.headertext import read_header_text
from larun.model.headers import KEYWORDS
from larun.model.time.site import Site
from larun.model.time.timing import from_header
from tests.conftest import real_data

LICK = Site(-121.6428, 37.3414, 1283.0)
SUTHERLAND = Site(20.8107, -32.3794, 1798.0)
CTIO = Site(-70.81489, -30.16606, 2215.0)
SUBARU = Site(-155.4761, 19.8256, 4139.0)
CFHT = Site(-155.468876, 19.825252, 4204.0)
APACHE_POINT = Site(-105.8204, 32.7804, 2788.0)

# file, site, middle in UTC, RA, Dec, air mass (None: not stated)
FILES = [
    ("nickel/d1059.fits.fz", LICK, "2024-05-13T05:34:43.980", 250.42167, 36.45994, 1.4132),
    ("nickel/d1074.fits.fz", LICK, "2024-05-13T06:30:35.950", 230.99271, 58.05953, 1.1158),
    ("tres1/tres1-120.fit.fz", None, "2012-06-17T03:43:49.000", None, None, None),
    ("kb13475/AKB13475I0001.fits.fz", SUTHERLAND, "2013-06-27T23:15:42.022", 273.87083, -25.28500, 1.023),
    ("ste3/a8280271.fits.gz", SUTHERLAND, "2013-07-13T00:58:48.020", 331.03333, -0.92528, 1.176),
    ("lco/coj1m011-fl08-20151216-0083-d00.fits.fz", None, "2015-12-16T20:25:47.605", 358.53229, -80.10862, 2.7367),
    ("lco/cpt1m012-fl10-20151216-0073-e00.fits.fz", None, "2015-12-16T18:20:56.407", 21.04765, -32.38259, 1.0000),
    ("hst/pluto1.fits.gz", None, "2011-06-28T14:26:23.500", 276.34406, -18.81608, None),
    # the telescope's boresight; TAI, 32 s and 33 s ahead; the first row was read at the stated time
    ("sdss/fpC-004192-g4-0300.fit.gz", APACHE_POINT, "2003-10-19T04:48:16.264", 352.28022, 0.0, None),
    ("sdss/fpC-006377-r4-0399.fit.gz", APACHE_POINT, "2006-09-20T05:56:30.084", 351.07818, 0.0, None),
]
TEXTS = [
    ("decam-0160496", CTIO, "2012-12-11T22:06:32.859", 341.60303, 20.78889, None),
    ("decam-calexp-0412037_10", CTIO, "2015-02-20T00:48:04.126", 138.37717, -2.29544, 1.67),
    ("decam-instcal-c4d_190402_050618_ooi_VR_v1", CTIO, "2019-04-02T05:07:18.383", 215.86588, -13.60728, 1.10),
    ("decam-raw_dec050441_25", CTIO, "2013-02-13T09:01:55.967", 270.63889, -23.78333, 1.77),
    ("decam", CTIO, "2013-09-01T06:04:35.754", 42.81953, -0.00131, 1.57),
    ("hsc-HSCA04090107", SUBARU, "2015-10-10T08:21:21.598", 21.15724, 1.25976, 1.2573),
    ("hsc", SUBARU, "2013-11-02T06:16:10.908", 320.74993, 0.50002, 1.1216),
    ("megaprime-calexp-849375-14", CFHT, "2006-05-20T12:07:15.834", 214.87038, 52.65361, 1.548),
    ("megaprime", CFHT, "2008-11-01T14:38:39.919", 135.40942, -2.40000, 1.269),
    ("sdss-fpC-006377-g4-0399", APACHE_POINT, "2006-09-20T06:01:16.684", 352.27586, 0.0, 1.2051),
    ("suprimecam-CORR40535770", SUBARU, "2007-04-23T08:04:07.110", 206.74031, -10.73319, 1.354),
]


def header_of(name):
    return read_header_text(real_data("headers", name)).header


def check(time, middle, ra, dec, airmass):
    assert abs((time.mid - Time(middle, scale="utc")).to_value("s")) < 2e-3
    if ra is not None:
        there = SkyCoord(ra, dec, unit="deg")
        assert SkyCoord(*time.pointing, unit="deg").separation(there).arcsec < 0.1
    if airmass is not None and time.site is not None:
        assert time.computed_airmass == pytest.approx(airmass, rel=0.02)


@pytest.mark.parametrize(("name", "site", "middle", "ra", "dec", "airmass"), FILES, ids=[row[0] for row in FILES])
def test_acceptance_21_files_of_every_camera(name, site, middle, ra, dec, airmass):
    frame = larun.Frame.read(real_data(*name.split("/")), **({"ext": "SCI"} if name.startswith("hst") else {}))
    time = from_header(frame.header, type(frame).all_keywords(), site, name)
    check(time, middle, ra, dec, airmass)
    assert frame.time.exposure == time.exposure
    if airmass is not None and time.header_airmass is not None:
        assert time.airmass == pytest.approx(airmass, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "middle"),
    [
        # TAIHMS less 32 s (2003) or 33 s (2006); 744 rows of 26322 µs later less half of 53.907456 s: 7.370 s before
        ("fpC-004192-g4-0300.fit.gz", "2003-10-19T04:47:41.940"),
        ("fpC-004192-r4-0300.fit.gz", "2003-10-19T04:42:55.310"),
        ("fpC-006377-r4-0399.fit.gz", "2006-09-20T05:55:55.760"),
    ],
)
def test_acceptance_21_a_drift_scan_is_timed_at_its_middle_row(name, middle):
    time = larun.Frame.read(real_data("sdss", name)).time
    assert abs((time.mid - Time(middle, scale="utc")).to_value("s")) < 2e-3
    assert (time.end - time.start).to_value("s") == pytest.approx(53.907456, abs=1e-6)
    assert time.computed_airmass == pytest.approx(1.19, abs=0.02)  # 1/sin of ALT = 57.09 and 56.07


@pytest.mark.parametrize(("name", "site", "middle", "ra", "dec", "airmass"), TEXTS, ids=[row[0] for row in TEXTS])
def test_acceptance_21_headers_of_every_camera(name, site, middle, ra, dec, airmass):
    time = from_header(header_of(f"fitsheader-{name}.yaml"), KEYWORDS, site)
    check(time, middle, ra, dec, airmass)


# Local sidereal times the observatories wrote down: they test site, sign of longitude and time scale at once.
SIDEREAL = [
    ("hsc-HSCA04090107", SUBARU, 23 + 12 / 60 + 41.241 / 3600, 75.0),
    ("hsc", SUBARU, 22 + 40 / 60 + 45.506 / 3600, 15.0),
    ("megaprime", CFHT, 6 + 56 / 60 + 39.82 / 3600, 615.037 / 2),
    ("megaprime-calexp-849375-14", CFHT, 17 + 34 / 60 + 55.10 / 3600, 300.202 / 2),
    ("suprimecam-CORR40535770", SUBARU, 11 + 44 / 60 + 29.655 / 3600, 100.0),
]


@pytest.mark.parametrize(("name", "site", "begin", "later"), SIDEREAL, ids=[row[0] for row in SIDEREAL])
def test_sidereal_times(name, site, begin, later):
    time = from_header(header_of(f"fitsheader-{name}.yaml"), KEYWORDS, site)
    assert (time.local_sidereal_time - begin) * 3600 == pytest.approx(later * 1.0027379, abs=2.5)


def test_sidereal_time_at_sutherland():
    """ST = 19:01:19 and UT = 23:13:12 at the begin of a frame of 300.045 s; both count whole seconds."""
    frame = larun.Frame.read(real_data("kb13475", "AKB13475I0001.fits.fz"))
    time = from_header(frame.header, KEYWORDS, SUTHERLAND)
    begin = time.local_sidereal_time - 300.045 / 2 * 1.0027379 / 3600
    assert (begin - (19 + 1 / 60 + 19 / 3600)) * 3600 == pytest.approx(0, abs=3)


def test_the_heliocentric_dates_of_the_observatory():
    """PHJDMID: by other software, from MJD-OBS of five digits (0.86 s each)."""
    folder = real_data("kb13475")
    paths = sorted(folder.glob("*.fz"))[::9]
    off = []
    for path in paths:
        frame = larun.Frame.read(path)
        off.append((frame.time.hjd_utc() - float(frame.header["PHJDMID"])) * 86400)
    assert len(off) > 5
    assert np.abs(off).max() < 1.5


def test_headers_that_lie_are_doubted():
    for name, words in (
        ("decam", "below the horizon"),  # a longitude that counts west, called east
        ("decam-calexp-0412037_10", "-35.0 s off"),  # TIMESYS is TAI, DATE-OBS is UTC
        ("megaprime-calexp-849375-14", "MJDATE = 53875.5033071 is -33.0 s off"),
    ):
        doubts = from_header(header_of(f"fitsheader-{name}.yaml"), KEYWORDS).doubts
        assert any(words in doubt for doubt in doubts), (name, doubts)
    raw = larun.Frame.read(real_data("ste3", "a8280271.fits.gz"))
    assert not raw.time.doubts  # the camera's class knows better than to look at MJD-OBS
    assert (
        from_header(raw.header, KEYWORDS)
        .doubts[0]
        .endswith("UT = '00:57:33' is used; MJD-OBS = 56486.0 has no time of day")
    )
