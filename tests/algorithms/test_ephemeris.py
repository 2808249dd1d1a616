"""Time scales, light travel times and altitudes, against published values and against astropy's own way."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time

from larun.algorithms import ephemeris
from larun.errors import OptionError

PLACES = [(0.0, 0.0), (122.0333, 32.0), (266.4, -29.0), (10.0, 89.0), (273.8708, -25.285)]
SITES = [(20.8107, -32.3794, 1798.0), (-155.4761, 19.8256, 4139.0), (-105.8204, 32.7804, 2788.0)]


def instant(text):
    time = Time(text, scale="utc")
    return ephemeris.Instant(time.jd1, time.jd2)


def test_light_travel_agrees_with_the_values_published_with_astropy():
    """Of the WHT, 2013-02-02T23:00 UTC, 08:08:08 +32:00:00: astropy/time/tests/test_corrs.py, where they are said to
    agree with an independent implementation on SLALIB within 20 µs."""
    found = ephemeris.light_travel(
        instant("2013-02-02T23:00:00"), 15 * (8 + 8 / 60 + 8 / 3600), 32.0, (342.12, 28.758333333333333, 2327.0)
    )
    assert abs(found.barycentric - 460.58538779827836) < 2e-5
    assert abs(found.heliocentric - 461.43037870502235) < 2e-5


def test_light_travel_agrees_with_the_heliocentric_dates_of_an_observatory():
    """PHJDMID of frame AKB13475I0001 of the SAAO 1.0 m: computed by other software, for MJD-OBS and half of EXPTIME;
    MJD-OBS has five digits, 0.86 s each."""
    mid = ephemeris.add_seconds(ephemeris.from_julian_date(2400000.5, 56470.96750), 300.045 / 2)
    travel = ephemeris.light_travel(mid, 273.87083, -25.285)
    hjd = mid.jd1 + (mid.jd2 + travel.heliocentric / 86400)
    assert abs(hjd - 2456471.4750976888) * 86400 < 1.5


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("date", ["1998-07-01T03:00:00", "2013-02-13T09:01:40", "2024-05-13T05:34:43"])
def test_acceptance_21_light_travel_agrees_with_astropy(date, site):
    location = EarthLocation.from_geodetic(*site)
    time = Time(date, scale="utc", location=location)
    for ra, dec in PLACES:
        star = SkyCoord(ra, dec, unit="deg")
        found = ephemeris.light_travel(instant(date), ra, dec, site)
        assert abs(found.barycentric - time.light_travel_time(star, kind="barycentric").to_value("s")) < 1e-5
        assert abs(found.heliocentric - time.light_travel_time(star, kind="heliocentric").to_value("s")) < 1e-5
        centre = ephemeris.light_travel(instant(date), ra, dec)
        assert 1e-6 < abs(centre.barycentric - found.barycentric) < ephemeris.LIGHT_ACROSS_EARTH
    jd1, jd2 = ephemeris.tdb(instant(date))
    assert abs((jd1 - time.tdb.jd1) + (jd2 - time.tdb.jd2)) * 86400 < 1e-5  # the place counts 2 µs in TDB


def test_arrays_of_sources_give_arrays():
    when = instant("2013-02-13T09:01:40")
    ra, dec = np.array(PLACES).T
    many = ephemeris.light_travel(when, ra, dec, SITES[0]).barycentric
    assert many.shape == ra.shape
    assert [float(v) for v in many] == [float(ephemeris.light_travel(when, *p, SITES[0]).barycentric) for p in PLACES]


@pytest.mark.parametrize("site", SITES)
def test_altitudes_agree_with_astropy(site):
    time = Time("2013-02-13T09:01:40")
    frame = AltAz(obstime=time, location=EarthLocation.from_geodetic(*site))
    for ra, dec in PLACES:
        expected = SkyCoord(ra, dec, unit="deg").transform_to(frame).alt.deg
        assert abs(ephemeris.altitude(instant(time), ra, dec, site) - expected) < 15 / 3600  # UT1 is taken for UTC
    expected = time.sidereal_time("apparent", site[0] * u.deg).hour
    assert abs(ephemeris.sidereal_time(instant(time), site[0]) - expected) * 3600 < 0.9


def test_airmass_agrees_with_another_formula():
    """Kasten & Young 1989, Applied Optics 28, 4735, eq. 3, of the apparent altitude; refraction by Bennett 1982,
    Journal of Navigation 35, 255."""
    for apparent in (90.0, 60.0, 30.0, 20.0, 10.0, 5.0):
        expected = 1 / (np.sin(np.radians(apparent)) + 0.50572 * (apparent + 6.07995) ** -1.6364)
        refraction = 1.0 / np.tan(np.radians(apparent + 7.31 / (apparent + 4.4))) / 60.0
        assert abs(float(ephemeris.airmass(apparent - max(refraction, 0))) / expected - 1) < 0.006
    assert float(ephemeris.airmass(0.0)) == pytest.approx(31.73, abs=0.01)
    assert np.isnan(ephemeris.airmass(-0.1))


@pytest.mark.parametrize(("scale", "ahead"), [("tai", 33.0), ("tt", 65.184), ("tdb", 65.184), ("gps", 14.0)])
def test_time_scales(scale, ahead):
    """TAI − UTC was 33 s in 2006; TT is 32.184 s ahead of TAI, GPS 19 s behind it."""
    noon = ephemeris.from_calendar((2006, 9, 20), 43200.0)
    assert noon == (2453998.5, 0.5)
    for found in (
        ephemeris.from_calendar((2006, 9, 20), 43200.0 + ahead, scale),
        ephemeris.from_julian_date(2453999.0, ahead / 86400, scale),
    ):
        assert abs(ephemeris.seconds_between(noon, found)) < (3e-3 if scale == "tdb" else 1e-6)
    with pytest.raises(OptionError, match="time scale"):
        ephemeris.from_julian_date(2453999.0, 0.0, "local")


def test_leap_seconds_count():
    """A second was inserted at the end of 2016."""
    before = ephemeris.from_calendar((2016, 12, 31), 86399.0)
    leap = ephemeris.from_calendar((2016, 12, 31), 86400.5)
    after = ephemeris.from_calendar((2017, 1, 1), 1.0)
    assert ephemeris.seconds_between(before, leap) == pytest.approx(1.5, abs=1e-6)
    assert ephemeris.seconds_between(before, after) == pytest.approx(3.0, abs=1e-6)
    assert Time(*ephemeris.add_seconds(before, 1.5), format="jd", scale="utc").isot == "2016-12-31T23:59:60.500"
    assert Time(*leap, format="jd", scale="utc").isot == "2016-12-31T23:59:60.500"
    # and an ordinary day ends after 86400
    for seconds, text in ((86400.0, "2013-02-14T00:00:00.000"), (-3600.0, "2013-02-12T23:00:00.000")):
        made = ephemeris.from_calendar((2013, 2, 13), seconds)
        assert Time(*made, format="jd", scale="utc").isot == text


def test_mean_places_of_other_equinoxes():
    """Against astropy: Arcturus-like places of B1950, J1975 and the equinox of date."""
    for frame, equinox in (("fk4", "B1950"), ("fk5", "J1975"), ("fk5", "J2024.36")):
        kinds = {"obstime": "B1950"} if frame == "fk4" else {}
        expected = SkyCoord(213.3, 19.4, unit="deg", frame=frame, equinox=equinox, **kinds).icrs
        found = ephemeris.to_icrs(213.3, 19.4, float(equinox[1:]), fk4=frame == "fk4")
        assert SkyCoord(*found, unit="deg").separation(expected).arcsec < 0.5
    assert ephemeris.to_icrs(213.3, 19.4, 2000.0) == pytest.approx((213.3, 19.4), abs=1e-12)


def test_nothing_is_downloaded(monkeypatch):
    import socket

    def refuse(*_, **__):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    late = ephemeris.from_calendar((2041, 1, 1), 0.0)  # beyond every table
    assert abs(ephemeris.light_travel(late, 10.0, 20.0, SITES[0]).barycentric) < 510
    assert 0 <= ephemeris.sidereal_time(late, 20.0) < 24
