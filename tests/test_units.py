"""Units at the door."""

import pytest
from astropy import units as u

from larun import units
from larun.errors import OptionError


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("ADU", "adu"),
        ("counts", "adu"),
        (" DN ", "adu"),
        ("e-", "electron"),
        ("Electrons", "electron"),
        (u.electron, "electron"),
        (u.adu, "adu"),
        (u.adu / u.s, "adu / s"),
        ("adu s-1", "adu / s"),
        ("", ""),
        (None, ""),
        (u.dimensionless_unscaled, ""),
        ("electron / s", "electron / s"),
        (u.Jy, "Jy"),
    ],
)
def test_units_have_one_name(given, name):
    assert units.canonical(given) == name
    assert units.canonical(name) == name


def test_what_is_no_unit_raises():
    with pytest.raises(OptionError, match="parsnip"):
        units.canonical("parsnip")


def test_plain_numbers():
    assert units.plain(2 * u.min, "s", "exposure") == 120.0
    assert units.plain("3.5", "s", "exposure") == 3.5
    for wrong in (3 * u.m, "many", None, [1, 2], [1, 2] * u.s):
        with pytest.raises(OptionError, match="exposure"):
            units.plain(wrong, "s", "exposure")
