"""Dates, times and angles in the forms that headers have."""

import pytest

from larun.errors import HeaderError
from larun.io.dates import parse_angle, parse_stamp


@pytest.mark.parametrize(
    ("text", "date", "seconds", "utc"),
    [
        ("2013-02-13T09:01:40.966998", (2013, 2, 13), 32500.966998, False),
        ("2013-02-13 09:01:40", (2013, 2, 13), 32500.0, False),
        ("2013-02-13T09:01", (2013, 2, 13), 32460.0, False),
        ("2007-04-23T08:04:07.110399744Z", (2007, 4, 23), 29047.110399744, True),
        ("2013-02-13T09:01:40UTC", (2013, 2, 13), 32500.0, True),
        ("2013-02-13T01:01:40+02:00", (2013, 2, 13), 3700.0 - 7200.0, True),
        ("2013-02-13T01:01:40-0330", (2013, 2, 13), 3700.0 + 12600.0, True),
        ("2013-02-13T24:00:00", (2013, 2, 13), 86400.0, False),
        ("2016-12-31T23:59:60.5", (2016, 12, 31), 86400.5, False),
        ("2013-02-13T09:01:60", (2013, 2, 13), 32520.0, False),
        ("2013-06-27", (2013, 6, 27), None, False),
        ("2013/06/27", (2013, 6, 27), None, False),
        ("13/02/99", (1999, 2, 13), None, False),
        ("13/02/99 09:01:40", (1999, 2, 13), 32500.0, False),
        (" 23:13:12 ", None, 83592.0, False),
    ],
)
def test_what_cameras_write(text, date, seconds, utc):
    made = parse_stamp(text)
    assert made.date == date
    assert made.seconds == pytest.approx(seconds, abs=1e-9)
    assert (made.utc, made.doubt) == (utc, "")


@pytest.mark.parametrize(("text", "date"), [("13/02/13", (2013, 2, 13)), ("03/02/2013", (2013, 2, 3))])
def test_what_had_to_be_guessed_is_said(text, date):
    made = parse_stamp(text)
    assert made.date == date
    assert text in made.doubt


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2013-13-13",
            "2013-02-30",
            "32/01/99",
            "13/02/199",
            "25:00:00",
            "24:00:01",
            "2013-02-13T09:60:00",
            "09:01:61",
        ),
        *("", "yesterday", "T09:01:40", "20130213", "2013-02-13T09:01:40.5.5", "2013-02-13Tnoon", "2013-02-13T"),
        *("2013-02-1309:01:40", "0001-01-01", "9999-12-31T00:00:00"),
    ],
)
def test_what_is_no_date_is_refused(text):
    with pytest.raises(HeaderError):
        parse_stamp(text)


@pytest.mark.parametrize(
    ("text", "value", "sexagesimal", "letter"),
    [
        ("16:41:41.20", 16.694777777777778, True, ""),
        ("-00:55:31", -0.9252777777777778, True, ""),
        ("16 41 41.2", 16.694777777777778, True, ""),
        ("16h41m41.2s", 16.694777777777778, True, ""),
        ("+36d27m35.8s", 36.45994444444445, True, ""),
        ("36°27'35.8\"", 36.45994444444445, True, ""),
        ("155 28 12 W", -155.47, True, "W"),
        ("W 155:28:12", -155.47, True, "W"),
        ("32.38 S", -32.38, False, "S"),
        ("20.81 E", 20.81, False, "E"),
        ("-70.81489", -70.81489, False, ""),
    ],
)
def test_angles(text, value, sexagesimal, letter):
    found = parse_angle(text)
    assert found[0] == pytest.approx(value, abs=1e-12)
    assert found[1:] == (sexagesimal, letter)


@pytest.mark.parametrize("text", ["", "north", "12:61:00", "12:00:61", "1:2:3:4", "12.5:30:00", "12 34 56 Q"])
def test_what_is_no_angle_is_refused(text):
    with pytest.raises(HeaderError):
        parse_angle(text)
