"""Units at the door: quantities come in, plain numbers in one agreed unit go inside.

The image units are plain strings in canonical form, so that nothing inside larun needs astropy's unit machinery.
"""

from __future__ import annotations

from typing import Any

from larun.errors import OptionError

__all__ = ["ADU", "ADU_PER_SECOND", "ELECTRON", "NONE", "canonical", "plain"]

ADU = "adu"
ELECTRON = "electron"
ADU_PER_SECOND = "adu / s"
NONE = ""

_ALIASES = {
    "adu": ADU,
    "count": ADU,
    "counts": ADU,
    "dn": ADU,
    "electron": ELECTRON,
    "electrons": ELECTRON,
    "e-": ELECTRON,
    "adu / s": ADU_PER_SECOND,
    "adu/s": ADU_PER_SECOND,
    "adu s-1": ADU_PER_SECOND,
    "": NONE,
    "dimensionless": NONE,
}


def canonical(unit: Any) -> str:
    """The canonical name of an image unit; other units astropy knows keep astropy's spelling.

    Raises
    ------
    OptionError
        If the text is not a unit.

    Examples
    --------
    >>> canonical("e-"), canonical("DN"), canonical("adu s-1")
    ('electron', 'adu', 'adu / s')
    """
    text = str(unit or "").strip()
    if text.lower() in _ALIASES:
        return _ALIASES[text.lower()]
    from astropy import units  # costs 0.2 s: only unusual units pay it

    try:
        parsed = units.Unit(text)
    except ValueError as error:
        raise OptionError(f"unit {text!r} is not known: use 'adu', 'electron' or a unit of astropy") from error
    name: str = parsed.to_string()
    return _ALIASES.get(name.lower(), name)


def plain(value: Any, unit: str, name: str) -> float:
    """A number in ``unit`` from a number (taken to be in ``unit``) or an astropy quantity.

    Raises
    ------
    OptionError
        If a quantity cannot be converted, or the value is not one number.

    Examples
    --------
    >>> plain(3, "s", "exposure")
    3.0
    """
    if hasattr(value, "to_value"):
        try:
            value = value.to_value(unit)
        except Exception as error:  # astropy raises several kinds
            raise OptionError(f"{name} = {value} cannot be expressed in {unit}") from error
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} = {value!r} is not a number (in {unit})") from error
