"""Time and place of an exposure, from every form in which headers tell it."""

import copy
import datetime
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.io import fits
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

import larun
from larun.errors import HeaderError, OptionError
from larun.model.headers import KEYWORDS, exposure_seconds
from larun.model.time.timing import from_header


def time_of(cards, site=None):
    return from_header(fits.Header(cards), KEYWORDS, site, "a.fits")


def frame_of(cards, **given):
    return larun.Frame.from_arrays(np.ones((16, 16)), header=cards, **given)


EXPTIME = ("EXPTIME", 120.0)
MIDNIGHT = "2013-02-14T00:00:30.000"  # of a begin at 23:59:30 and 120 s


@pytest.mark.parametrize(
    "cards",
    [
        [("DATE-OBS", "2013-02-13T23:59:30")],
        [("DATE-BEG", "2013-02-13T23:59:30.000Z")],
        [("DATE_OBS", "2013-02-13 23:59:30")],
        [("DATE-OBS", "13/02/99"), ("DATE-BEG", "2013-02-13T23:59:30")],
        [("DATE-OBS", "2013-02-13"), ("TIME-OBS", "23:59:30")],
        [("DATE-OBS", "2013-02-13"), ("UT", " 23:59:30.0")],
        [("DATE-OBS", "2013-02-13"), ("UTC-OBS", "23:59:30"), ("TIMESYS", "TAI")],
        [("DATE-OBS", "2013-02-14T00:00:05"), ("TIMESYS", "TAI")],
        [("DATE-OBS", "2013-02-14T00:00:37.184"), ("TIMESYS", "TT")],
        [("DATE-OBS", "2013-02-13T23:59:46"), ("TIMESYS", "GPS")],
        [("DATE-OBS", "2013-02-14T01:59:30+02:00"), ("TIMESYS", "TAI")],
        [("DATE-OBS", "2013-02-13T23:59:30"), ("TIMESYS", "UTC(NIST)")],
        [("MJD-OBS", 56336.99965277778)],
        [("MJD-BEG", "56336.99965277778")],
        [("DATE-OBS", "2013-02-13"), ("MJD-OBS", 56336.99965277778)],
        [("JD", 2456337.49965277778)],
        [("DATE-OBS", "2013-02-13"), ("JD", "2456337.49965277778")],
        [("DATE-AVG", "2013-02-14T00:00:30")],
        [("MJD-AVG", 56337.0003472222)],
        [("JD_UTC", 2456337.5003472222)],
        [("DATE-OBS", "2013-02-13T23:59:30"), ("MIDTIME", "00:00:30")],
        [("DATE-OBS", ("2013-02-14T00:00:30", "UT at mid-exposure"))],
        [("DATE-END", "2013-02-14T00:01:30")],
        [("DATE-OBS", "2013-02-13"), ("TIME-OBS", "23:59:30"), ("MJD-OBS", 56336.9996)],
        # the date of the evening, the time after midnight: the Julian date knows the day
        [("DATE-OBS", "2013-02-12"), ("UT", "23:59:30"), ("MJD-OBS", 56336.99965277778)],
    ],
)
def test_acceptance_21_the_middle_of_an_exposure_across_midnight(cards):
    header = fits.Header()
    for keyword, value in [*cards, EXPTIME]:
        header[keyword] = value
    time = from_header(header, KEYWORDS)
    assert abs((time.mid - Time(MIDNIGHT)).to_value("s")) < 1e-3
    assert abs((time.start - Time("2013-02-13T23:59:30")).to_value("s")) < 1e-3
    assert abs((time.end - Time("2013-02-14T00:01:30")).to_value("s")) < 1e-3
    assert (time.exposure, time.mid.scale) == (120.0, "utc")
    assert abs(time.jd_utc - 2456337.5003472222) < 1e-8


def test_where_it_came_from_is_said():
    time = time_of([("DATE-OBS", "2013-06-27"), ("UT", "23:13:12"), ("EXPTIME", "300.045")])
    assert time.sources["start"] == "DATE-OBS = '2013-06-27', UT = '23:13:12'"
    assert time.sources["mid"].endswith("and half of EXPTIME = '300.045'")
    assert time.doubts == ()
    with pytest.raises(TypeError):
        time.sources["start"] = "elsewhere"


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ([("DATE-OBS", "2013-06-27"), ("MJD-OBS", 56470.9675)], "has a date only"),
        (
            [("DATE-OBS", "2013-06-27"), ("UT", "23:13:12"), ("MJD-OBS", 56470.0)],
            "MJD-OBS = 56470.0 has no time of day",
        ),
        ([("DATE-OBS", "2013-06-27T23:13:12"), ("MJD-OBS", 56470.96764)], r"MJD-OBS = 56470.96764 is \+12\.1 s off"),
        ([("DATE-OBS", "2013-06-26"), ("UT", "23:13:12"), ("MJD-OBS", 56470.9675)], "the date is that of the night"),
        (
            [("DATE-OBS", "27 June"), ("MJD-OBS", 56470.9675)],
            "MJD-OBS = 56470.9675 is used; DATE-OBS = '27 June' is no date",
        ),
        ([("DATE-OBS", "2013-06-27T23:13:12"), ("MJD-OBS", 3.5)], "MJD-OBS = 3.5 is no Julian date"),
        ([("DATE-OBS", "2013-06-27T23:13:12"), ("MIDTIME", "noon")], "MIDTIME = 'noon' is no date or time"),
        ([("DATE-OBS", "2013-06-27T23:13:12"), ("TIMESYS", "LOCAL")], "UTC is assumed"),
        ([("DATE-OBS", "27/06/13"), ("UT", "23:13:12")], "no CCDs in 1913"),
        ([("DATE-OBS", "2013-06-27T23:13:12"), ("DATE-END", "2013-06-27T23:16:02")], r"is \+50\.0 s off"),
        ([("DATE-OBS", "2013-06-27T23:13:12"), ("DATE-AVG", "2013-06-27T23:14:47")], r"are -35\.0 s off"),
    ],
)
def test_what_contradicts_itself_is_doubted(cards, words):
    time = time_of([*cards, EXPTIME])
    assert time.mid is not None
    assert len(time.doubts) == 1
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(time.doubts[0])


def test_a_doubted_begin_follows_the_middle():
    time = time_of([("DATE-OBS", "2013-06-27T23:13:12"), ("DATE-AVG", "2013-06-27T23:14:47"), EXPTIME])
    assert time.mid.isot == "2013-06-27T23:14:47.000"
    assert time.start.isot == "2013-06-27T23:13:47.000"


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ([EXPTIME], "none of DATE-OBS, DATE-BEG"),
        ([("DATE-OBS", "2013-13-45T09:01:40"), EXPTIME], "DATE-OBS = '2013-13-45T09:01:40' names a day that does not"),
        ([("DATE-OBS", "last night"), EXPTIME], "DATE-OBS = 'last night' is no date"),
        ([("DATE-OBS", "2013-06-27"), EXPTIME], "has a date only, and none of TIME-OBS"),
        ([("DATE-OBS", "2013-06-27"), ("UT", "27:00:00"), EXPTIME], "UT = '27:00:00' is no time of day"),
        ([("MJD-OBS", 12.5), EXPTIME], "MJD-OBS = 12.5 is no Julian date"),
        ([("MJD-OBS", 56470), EXPTIME], "MJD-OBS = 56470 has no time of day"),
        ([("DATE-OBS", "2013-06-27T23:13:12")], "the exposure time is missing: none of EXPTIME"),
        ([("DATE-OBS", "2013-06-27T23:13:12"), ("EXPTIME", -1.0)], "EXPTIME = -1.0: is no time of exposure"),
        ([("DATE-OBS", "2013-06-27T23:13:12"), ("EXPTIME", 1e300)], "EXPTIME = 1e+300: is no time of exposure"),
    ],
)
def test_what_is_missing_or_impossible_is_none_and_an_error_when_needed(cards, words):
    time = time_of(cards)
    assert time.mid is None
    assert words in time.sources["mid"]
    for ask in (lambda: time.jd_utc, time.bjd_tdb, time.hjd_utc):
        with pytest.raises(HeaderError, match=r"a\.fits: the time of exposure is not known") as error:
            ask()
        assert words in str(error.value)
    assert (time.altitude, time.local_sidereal_time, time.to_dict()["mid_time"]) == (None, None, None)


def test_begin_and_end_make_a_middle_without_an_exposure_time():
    time = time_of([("DATE-OBS", "2013-06-27T23:13:12"), ("UT-END", "00:13:12")])
    assert time.mid.isot == "2013-06-27T23:43:12.000"
    assert time.end.isot == "2013-06-28T00:13:12.000"
    assert time.exposure is None


def test_an_exposure_across_a_leap_second():
    time = time_of([("DATE-OBS", "2016-12-31T23:59:50"), ("EXPTIME", 40.0)])
    assert time.mid.isot == "2017-01-01T00:00:09.000"
    assert time_of([("DATE-OBS", "2016-12-31T23:59:60"), ("EXPTIME", 2)]).mid.isot == "2017-01-01T00:00:00.000"
    assert time_of([("DATE-OBS", "2013-02-13T24:00:00"), ("EXPTIME", 2)]).mid.isot == "2013-02-14T00:00:01.000"
    assert time_of([("DATE-OBS", "2013-02-13T09:01:60"), ("EXPTIME", 2)]).mid.isot == "2013-02-13T09:02:01.000"


@pytest.mark.parametrize(
    ("card", "seconds"),
    [
        (("EXPTIME", 1500, "[ms] exposure time"), 1.5),
        (("EXPTIME", 1500, "Exposure (milliseconds)"), 1.5),
        (("EXPTIME", "1500 ms", ""), 1.5),
        (("EXPTIME", 60, "[s] to the nearest ms"), 60.0),
        (("EXPTIME", 60, "Exposure time, terms as agreed"), 60.0),
        (("EXPTIME", "60 s", ""), 60.0),
    ],
)
def test_exposures_in_milliseconds(card, seconds):
    header = fits.Header([card, ("DATE-OBS", "2013-06-27T23:13:12")])
    assert exposure_seconds(header, ("EXPTIME",)).value == seconds
    assert from_header(header, KEYWORDS).exposure == seconds
    assert frame_of(header).exposure == seconds


def test_what_the_caller_gives_goes_before_all(tmp_path):
    header = fits.Header({"DATE-AVG": "2000-01-01T00:00:00", "MJD-OBS": 51544.0, "SITELONG": 0.0, "SITELAT": 0.0})
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.ones((8, 8), np.uint16), header).writeto(path)
    wanted = {"date": "2024-05-13T05:34:13.98", "exposure": 60, "ra": "16:41:41.20", "dec": "36:27:35.8"}
    frame = larun.Frame.read(path, **wanted, longitude=-121.6428, latitude=37.3414, height=1283)
    assert frame.time.mid.isot == "2024-05-13T05:34:43.980"
    assert frame.time.pointing == pytest.approx((250.42166667, 36.45994444))
    assert frame.time.site == larun.Site(-121.6428, 37.3414, 1283)

    class Somewhere(larun.Frame):
        """A camera that knows where it stands."""

        site = larun.Site(20.8107, -32.3794, 1798)

    assert Somewhere.read(path).time.site.longitude == 20.8107
    assert Somewhere.read(path, longitude=-121.6428, latitude=37.3414).time.site.longitude == -121.6428
    assert Somewhere.read(path, mid_time="2024-05-13T05:34:13").time.mid.isot == "2024-05-13T05:34:13.000"
    with pytest.raises(HeaderError, match=r"a\.fits: where the telescope pointed"):
        Somewhere.read(path).time.bjd_tdb()


def test_what_the_caller_gives_must_make_sense(tmp_path):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.ones((8, 8), np.uint16)).writeto(path)
    for wrong in (
        {"date": "yesterday"},
        {"date": datetime.datetime(2013, 2, 3)},
        {"mid_time": 17.0},
        {"end_time": None},
    ):
        with pytest.raises(OptionError, match=f"{next(iter(wrong))} = "):
            larun.Frame.read(path, **wrong)
    time = larun.Frame.read(path, mid_time=56336.5, exposure=10).time
    assert time.start.isot == "2013-02-13T11:59:55.000"


TEXTS = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
    st.sampled_from(
        ["2013-02-13T23:59:60", "0001-01-01T00:00:00", "9999-12-31T24:00:00", "31/12/00", "NaN", "1 2 3 S"]
    ),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**12), 10**12),
    st.booleans(),
    st.just(None),
)
ROWS = ["date", "clock", "julian_date", "mid_time", "end_time", "time_scale", "exposure", "ra", "dec", "equinox"]
ROWS += ["sky_frame", "airmass", "longitude", "latitude", "height", "geocentric"]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from([key for row in ROWS for key in KEYWORDS[row][:4]]), TEXTS, max_size=12))
def test_no_header_is_too_hostile(cards):
    """Whatever the cards say, there is an answer, and an answer is within sense."""
    header = fits.Header()
    for keyword, value in cards.items():
        header[keyword if len(keyword) <= 8 else f"HIERARCH {keyword}"] = value
    time = from_header(header, KEYWORDS)
    assert time.exposure is None or time.exposure >= 0
    assert time.pointing is None or (0 <= time.pointing[0] < 360 and abs(time.pointing[1]) <= 90)
    if time.mid is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy's, of years before UTC
            assert time.to_dict()["mid_time"] == time.mid.isot
    else:
        assert time.sources["mid"]


# -- place -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cards", "place"),
    [
        ([("RA", "16:41:41.20"), ("DEC", "36:27:35.8")], (250.4216667, 36.4599444)),
        ([("OBJCTRA", "16 41 41.2"), ("OBJCTDEC", "+36 27 35.8")], (250.4216667, 36.4599444)),
        ([("RA", 250.4216667), ("DEC", 36.4599444)], (250.4216667, 36.4599444)),
        ([("RA", "250.4216667"), ("DEC", "36.4599444")], (250.4216667, 36.4599444)),
        ([("RA", -8.2962), ("DEC", 0.1975)], (351.7038, 0.1975)),
        ([("RA", "NaN"), ("DEC", "NaN"), ("RA_TARG", 276.344), ("DEC_TARG", -18.816)], (276.344, -18.816)),
        ([("RA", (16.69477778, "[h] right ascension")), ("DEC", 36.4599444)], (250.4216667, 36.4599444)),
        ([("RA", "250:25:18"), ("DEC", "-00:27:36")], (250.4216667, -0.46)),
        # B1950 and J1975 of the same place (precessed by astropy)
        ([("RA", 249.9766), ("DEC", 36.5547), ("EQUINOX", 1950.0)], (250.4216667, 36.4599444)),
        (
            [("RA", "16:40:47.58"), ("DEC", "36:30:25"), ("EQUINOX", "J1975.0"), ("RADESYS", "FK5")],
            (250.4216667, 36.46),
        ),
        (
            [("RA", 250.4216667), ("DEC", 36.4599444), ("EQUINOX", 2024.5), ("RADECSYS", "ICRS")],
            (250.4216667, 36.4599444),
        ),
    ],
)
def test_pointings(cards, place):
    header = fits.Header()
    for keyword, value in cards:
        header[keyword] = value
    found = from_header(header, KEYWORDS).pointing
    assert SkyCoord(*found, unit="deg").separation(SkyCoord(*place, unit="deg")).arcsec < 8


def test_impossible_pointings_are_left_out():
    for cards in ([("RA", 400.0), ("DEC", 0.0)], [("RA", 10.0), ("DEC", -95.0)], [("RA", "up"), ("DEC", "down")]):
        time = time_of(cards)
        assert time.pointing is None
        assert str(cards[0][1]) in time.sources["pointing"] or str(cards[1][1]) in time.sources["pointing"]


@pytest.mark.parametrize(
    ("cards", "site"),
    [
        ([("SITELONG", -70.81489), ("SITELAT", -30.16606), ("SITEELEV", 2215.0)], (-70.81489, -30.16606, 2215.0)),
        ([("LONG-OBS", "-70:48:53.6"), ("LAT-OBS", "-30:09:57.8")], (-70.81489, -30.16606, 0.0)),
        ([("SITELONG", "70 48 53.6 W"), ("SITELAT", "30 09 57.8 S")], (-70.81489, -30.16606, 0.0)),
        ([("OBS-LONG", (70.81489, "[deg] west longitude")), ("OBS-LAT", -30.16606)], (-70.81489, -30.16606, 0.0)),
        ([("SITELONG", (70.81489, "[deg] west is negative")), ("SITELAT", -30.16606)], (70.81489, -30.16606, 0.0)),
        (
            [("HIERARCH ESO TEL GEOLON", -70.7345), ("HIERARCH ESO TEL GEOLAT", -29.2584)],
            (-70.7345, -29.2584, 0.0),
        ),
        ([("LONGITUD", 289.18511), ("LATITUDE", -30.16606), ("HEIGHT", 2215)], (-70.81489, -30.16606, 2215.0)),
        (
            [("OBSGEO-X", -4681333.290), ("OBSGEO-Y", 2804952.937), ("OBSGEO-Z", -3292386.705), ("LONGITUD", 1.0)],
            (149.0708771, -31.2727986, 1165.0),
        ),
    ],
)
def test_sites(cards, site):
    header = fits.Header()
    for keyword, value in cards:
        header[keyword] = value
    found = from_header(header, KEYWORDS).site
    assert (found.longitude, found.latitude) == pytest.approx(site[:2], abs=1e-5)
    assert found.height == pytest.approx(site[2], abs=0.01)


def test_a_site_is_checked():
    with pytest.raises(OptionError, match="latitude=95"):
        larun.Site(20.0, 95.0)
    assert time_of([("SITELONG", 20.0), ("SITELAT", 95.0)]).site is None
    site = larun.Site(20.8107, -32.3794, 1798.0)
    assert larun.Site.of(site) is site
    assert larun.Site.of((20.8107, -32.3794, 1798.0)) == site
    back = larun.Site.of(site.location)
    assert back.longitude == pytest.approx(site.longitude, abs=1e-9)
    assert isinstance(site.location, EarthLocation)
    with pytest.raises(OptionError, match=r"give larun\.Site"):
        larun.Site.of("Sutherland")


def test_a_longitude_counted_the_wrong_way_is_noticed():
    cards = [("DATE-OBS", "2013-09-01T06:02:55"), ("EXPTIME", 200.0), ("RA", "02:51:16.686"), ("DEC", "-00:00:04.698")]
    cards += [("AIRMASS", 1.57), ("OBS-LONG", 70.81489), ("OBS-LAT", -30.16606)]
    (doubt,) = time_of(cards).doubts
    assert doubt.startswith("AIRMASS = 1.57, but the pointing is computed")
    right = time_of(cards, larun.Site(-70.81489, -30.16606, 2215.0))
    assert right.doubts == ()
    assert right.airmass == 1.57
    assert right.computed_airmass == pytest.approx(1.57, abs=0.02)


def test_an_impossible_airmass_is_computed_instead():
    cards = [("DATE-OBS", "2013-09-01T06:02:55"), ("EXPTIME", 200.0), ("RA", "02:51:16.686"), ("DEC", "-00:00:04.698")]
    time = time_of([*cards, ("AIRMASS", 0.0)], larun.Site(-70.81489, -30.16606, 2215.0))
    assert time.header_airmass is None
    assert time.airmass == time.computed_airmass == pytest.approx(1.5567, abs=1e-3)
    assert "no air mass" in time.sources["airmass"]


# -- Julian dates ------------------------------------------------------------------------------------------------------

CARDS = [("DATE-OBS", "2013-02-02T22:59:30"), ("EXPTIME", 60.0), ("RA", "08:08:08"), ("DEC", "+32:00:00")]
WHT = larun.Site(342.12, 28.758333333333333, 2327.0)


def test_acceptance_21_bjd_tdb_agrees_with_astropy_and_with_published_values():
    """The light travel times are those of astropy/time/tests/test_corrs.py (there within 20 µs of SLALIB); TDB − UTC
    was 67.184 s."""
    time = time_of(CARDS, WHT)
    assert time.jd_utc == pytest.approx(2456326.458333333, abs=1e-9)
    assert time.light_travel() == (pytest.approx(460.58538779827836, abs=2e-5), pytest.approx(1e-4))
    assert time.light_travel(to="sun").seconds == pytest.approx(461.43037870502235, abs=2e-5)
    by_hand = 2456326.458333333 + (460.58538779827836 + 67.184) / 86400
    assert abs(time.bjd_tdb() - by_hand) * 86400 < 2e-3  # TDB departs from TT by up to 1.7 ms
    assert abs(time.hjd_utc() - (2456326.458333333 + 461.43037870502235 / 86400)) * 86400 < 1e-3
    location = EarthLocation.from_geodetic(342.12, 28.758333333333333, 2327.0)
    when = Time("2013-02-02T23:00:00", scale="utc", location=location)
    star = SkyCoord(122.03333333, 32.0, unit="deg")
    expected = (when.tdb + when.light_travel_time(star, kind="barycentric")).jd
    assert abs(time.bjd_tdb() - expected) * 86400 < 1e-3


def test_without_a_site_the_error_is_stated():
    time = time_of(CARDS)
    assert time.site is None
    seconds, error = time.light_travel()
    assert abs(seconds - 460.58538779827836) < error
    assert 0.0212 < error < 0.0215
    assert time.bjd_tdb(site=WHT) == time_of(CARDS, WHT).bjd_tdb()
    assert time.bjd_tdb(site=(342.12, 28.758333333333333, 2327.0)) == time.bjd_tdb(site=WHT)


def test_positions_are_of_many_kinds():
    time = time_of(CARDS, WHT)
    stars = SkyCoord([122.0333333, 122.0], [32.0, 33.0], unit="deg")
    many = time.bjd_tdb(stars)
    assert many.shape == (2,)
    assert many[0] == time.bjd_tdb((122.0333333, 32.0))
    assert 1 < abs(many[1] - many[0]) * 86400 < 8.8  # a degree away
    assert abs(time.bjd_tdb(stars[0].transform_to("galactic")) - many[0]) * 86400 < 1e-4
    assert list(time.bjd_tdb((stars.ra.deg, stars.dec.deg))) == list(many)
    for wrong in ("M 13", (10.0, 95.0), 3.0):
        with pytest.raises(OptionError, match="position="):
            time.bjd_tdb(wrong)
    with pytest.raises(OptionError, match="to="):
        time.light_travel(to="moon")


def test_the_position_is_the_centre_of_the_image_where_there_is_a_wcs():
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 122.1, "CRVAL2": 32.1, "CRPIX1": 8.5, "CRPIX2": 8.5}
    wcs |= {"CDELT1": -1e-3, "CDELT2": 1e-3, "RADESYS": "ICRS"}
    frame = frame_of(dict(CARDS) | wcs)
    assert frame.time.pointing == pytest.approx((122.1, 32.1), abs=1e-9)
    corner = frame.crop((0, 4), (0, 4)).time
    assert corner.pointing[1] == pytest.approx(32.1 - 6e-3, abs=1e-6)
    assert corner.mid == frame.time.mid
    far = frame_of(dict(CARDS) | wcs | {"CRVAL2": -50.0}).time
    assert far.pointing == pytest.approx((122.0333333, 32.0))
    assert "82.0° from there" in far.doubts[0]


# -- the value ---------------------------------------------------------------------------------------------------------


def test_it_is_a_value():
    time = time_of(CARDS, WHT)
    for other in (copy.deepcopy(time), pickle.loads(pickle.dumps(time)), time_of(CARDS, WHT)):
        assert other == time
        assert hash(other) == hash(time)
        assert other.bjd_tdb() == time.bjd_tdb()
    assert time != time_of(CARDS)
    with pytest.raises(AttributeError):
        time.exposure = 3.0
    assert repr(time) == "<ExposureTime mid 2013-02-02T23:00:00.000 UTC>"
    assert repr(time_of([])) == "<ExposureTime of unknown time>"
    assert time.coordinates.separation(SkyCoord(122.03333333, 32.0, unit="deg")).arcsec < 1e-3
    assert set(time.to_dict()) >= {"mid_time", "jd_utc", "bjd_tdb", "airmass", "exposure"}


def test_a_camera_says_what_is_odd_about_its_clock():
    class Drifting(larun.Frame):
        """Its cards tell when the first row was read."""

        @classmethod
        def time_for(cls, header):
            found = super().time_for(header)
            return found.shifted(-30.0, "first row read, not begun")

    frame = Drifting.from_arrays(np.ones((8, 8)), header=dict(CARDS))
    assert frame.time.mid.isot == "2013-02-02T22:59:30.000"
    assert frame.time.sources["mid"].endswith("-30 s: first row read, not begun")
    assert Drifting.from_arrays(np.ones((8, 8))).time.shifted(1.0, "nothing").mid is None


def test_a_hook_that_fails_is_named(tmp_path):
    class Careless(larun.Frame):
        """It relies on a card that is not there."""

        @classmethod
        def time_for(cls, header):
            return super().time_for(header).shifted(header["CLOCKERR"], "the clock was off")

    class Wrong(larun.Frame):
        """It returns text."""

        @classmethod
        def time_for(cls, header):
            return "midnight"

    fits.PrimaryHDU(np.ones((8, 8), np.uint16)).writeto(tmp_path / "a.fits")
    with pytest.raises(HeaderError, match=r"a\.fits: .*Careless\.time_for failed \(test_timing\.py, line \d+\)"):
        Careless.read(tmp_path / "a.fits").time
    with pytest.raises(HeaderError, match=r"Wrong\.time_for returned 'midnight'"):
        Wrong.read(tmp_path / "a.fits").time
    night = larun.Night(tmp_path, camera=Careless)
    assert "time_for failed" in night.files[0].evidence


def test_it_survives_calibration_and_files(tmp_path):
    frame = frame_of(dict(CARDS), gain=1.0, read_noise=5.0)
    made = frame.calibrate(without=("bias", "dark", "flat"))
    assert made.time == frame.time
    back = larun.Frame.read(made.write(tmp_path / "a.fits"))
    assert back.time.mid == frame.time.mid
    assert back.time.bjd_tdb() == frame.time.bjd_tdb()


def test_reading_a_header_loads_no_astronomy_before_it_is_asked():
    code = (
        "import sys, numpy as np, larun; larun.Frame.from_arrays(np.ones((8, 8)), header={'DATE-OBS': '2013-02-02'});"
        "print(sorted({'erfa', 'astropy.time', 'astropy.coordinates'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("card", "east"),
    [((339.19, "[deg] west longitude"), 20.81), (-339.19, 20.81), (-180.0, -180.0), (-180.5, 179.5), (339.19, -20.81)],
)
def test_a_longitude_may_be_counted_all_around_either_way(card, east):
    header = fits.Header([("OBS-LONG", card) if not isinstance(card, tuple) else ("OBS-LONG", *card)])
    header["OBS-LAT"] = -32.38
    site = larun.Frame.from_arrays(np.ones((8, 8)), header=header).time.site
    assert site.longitude == pytest.approx(east, abs=1e-9)


def test_a_wcs_of_apparent_places_has_a_time():
    """astropy knows no frame for GAPPT: the places are taken for mean ones of their equinox."""
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 60.0, "CRPIX1": 32.5, "CRPIX2": 32.5}
    cards |= {"CDELT1": -3e-4, "CDELT2": 3e-4, "RADESYS": "GAPPT", "EQUINOX": 2013.1}
    time = larun.Frame.from_arrays(np.ones((64, 64)), header=cards).time
    mean = SkyCoord(10.0, 60.0, unit="deg", frame="fk5", equinox="J2013.1").icrs
    assert time.pointing == pytest.approx((mean.ra.deg, mean.dec.deg), abs=1e-7)
