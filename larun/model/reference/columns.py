"""Which column of a reference catalogue means what: Gaia, 2MASS, Pan-STARRS, ATLAS-RefCat2, SDSS, VizieR's names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from larun.errors import OptionError
from larun.model.measure.positions import DEC, RA

__all__ = ["QUANTITIES", "Layout", "layout", "require_place"]

#: What is kept of a star besides its magnitudes, with the unit and the names that others give it, in lower case.
QUANTITIES: Mapping[str, tuple[str | None, tuple[str, ...]]] = {
    "id": (None, ("id", "source_id", "source", "objid", "obj_id", "designation", "2mass", "_2mass", "name", "star")),
    "ra": ("deg", (*(item.name for item in RA), "_ra", "_raj2000", "_ra_icrs", "raicrs", "rastack")),
    "dec": ("deg", (*(item.name for item in DEC), "_de", "_dej2000", "_de_icrs", "deicrs", "decstack")),
    "pmra": ("mas/yr", ("pmra", "pmracosdec", "pm_ra_cosdec", "pm_ra")),
    "pmdec": ("mas/yr", ("pmdec", "pmde", "pm_dec")),
    "parallax": ("mas", ("parallax", "plx")),
    "epoch": ("yr", ("epoch", "ref_epoch", "refepoch", "ep")),
    "variable": (None, ("variable", "phot_variable_flag", "varflag", "dupvar", "isvariable")),
    "extended": (None, ("extended", "starnotgal", "type", "class", "objtype", "ext_key", "xflg")),
}

_ONE = r"u|g|r|i|z|y|G|B|V|R|I|J|H|K|U|BP|RP|Ks|W[1-4]|B_T|V_T|BT|VT"
_ALL = rf"(?P<band>{_ONE})"
_GAIA = {"g": "G", "bp": "BP", "rp": "RP"}
_VEGA = ("U", "B", "V", "R", "I", "J", "H", "K", "Ks", "G", "BP", "RP", "W1", "W2", "W3", "W4", "BT", "VT")
_AB = ("u", "g", "r", "i", "z", "y")


class _Way(NamedTuple):
    """How a survey names the magnitude of a band and its error; whether its name tells the system."""

    magnitude: re.Pattern[str]
    errors: tuple[str, ...]
    tells: bool


_WAYS = (
    _Way(
        re.compile(r"mag_(?P<band>[A-Za-z][A-Za-z0-9']{0,11})(?<!_error)"),
        ("mag_{0}_error", "mag_{0}_err", "mag_err_{0}", "e_mag_{0}"),
        False,
    ),
    _Way(
        re.compile(r"phot_(?P<band>g|bp|rp)_mean_mag"),
        ("phot_{0}_mean_mag_error", "phot_{0}_mean_flux_over_error"),
        True,
    ),
    _Way(re.compile(rf"{_ALL}['_]?mag"), ("e_{0}mag", "e_{0}'mag", "e_{0}_mag", "{0}mag_err", "{0}_mag_err"), True),
    _Way(re.compile(r"(?P<band>[grizy])(?:Mean)?PSFMag"), ("{0}MeanPSFMagErr", "{0}PSFMagErr"), True),
    _Way(re.compile(r"(?P<band>[ugriz])PSF"), ("e_{0}PSF",), True),
    _Way(re.compile(r"psfMag_(?P<band>[ugriz])"), ("psfMagErr_{0}", "psfmagerr_{0}"), True),
    _Way(re.compile(r"(?P<band>[jhk])_m"), ("{0}_msigcom", "{0}_cmsig"), True),
    _Way(re.compile(r"(?P<band>Gaia)"), ("dGaia",), True),
    _Way(re.compile(_ALL), ("{0}_error", "{0}_err", "{0}err", "e_{0}", "d{0}", "err_{0}", "sigma_{0}"), False),
)


class Layout(NamedTuple):
    """Where things are in a table.

    Attributes
    ----------
    quantities : dict of str
        Names of :data:`QUANTITIES` and the columns that hold them.
    magnitudes, errors : dict of str
        Bands and columns.
    colors : dict of (str, str)
        Bands that are a band and a colour: ``{"B": ("V", "B-V")}``, to be added, or with a minus before the colour to
        be taken off.
    systems : dict
        Of the bands whose name in that survey tells it.
    """

    quantities: dict[str, str]
    magnitudes: dict[str, str]
    errors: dict[str, str]
    colors: dict[str, tuple[str, str]]
    systems: dict[str, str | None]


def layout(names: Sequence[str], columns: Mapping[str, str] | None, where: str) -> Layout:
    """Which columns mean what.

    Parameters
    ----------
    names : sequence of str
        The columns.
    columns : mapping, optional
        What the user says: names of ours (``ra``, ``mag_g``, ``mag_g_error``, …) and the columns that hold them. Bands
        that are named there are the only ones then.
    where : str
        The file or table, for messages.

    Raises
    ------
    OptionError
        If a column that was named is not there, or no right ascension or declination can be found.

    Examples
    --------
    >>> found = layout(["RAJ2000", "DEJ2000", "Jmag", "e_Jmag"], None, "2mass.vot")
    >>> found.magnitudes, found.errors, found.systems
    ({'J': 'Jmag'}, {'J': 'e_Jmag'}, {'J': 'Vega'})
    """
    given = dict(columns or {})
    _check(given, names, where)
    quantities = {name: given[name] for name in QUANTITIES if name in given}
    taken = set(given.values())
    left = [name for name in names if name not in taken]
    for name, (_, known) in QUANTITIES.items():
        guess = _first(left, known)
        if name not in quantities and guess is not None:
            quantities[name] = guess
    magnitudes = {key[4:]: column for key, column in given.items() if _is_magnitude(key)}
    errors = {key[4:-6]: column for key, column in given.items() if key.endswith("_error")}
    systems: dict[str, str | None] = dict.fromkeys(magnitudes)
    if not magnitudes:
        magnitudes, guessed, systems = _guessed(names)
        errors = guessed | errors
    return Layout(quantities, magnitudes, errors, _colors(names, magnitudes), systems)


def _is_magnitude(key: str) -> bool:
    return key.startswith("mag_") and not key.endswith("_error")


def _check(given: dict[str, Any], names: Sequence[str], where: str) -> None:
    for name, column in given.items():
        if name not in QUANTITIES and not name.startswith("mag_"):
            raise OptionError(
                f"columns: {name!r} is nothing that is kept of a star: {', '.join(QUANTITIES)}, mag_<band>, "
                "mag_<band>_error"
            )
        if column not in names:
            raise OptionError(f"{where}: no column {column!r} for {name}; there are {', '.join(map(str, names[:40]))}")


def _first(names: Sequence[str], known: Sequence[str]) -> str | None:
    lower: dict[str, str] = {}
    for name in names:
        lower.setdefault(name.lower(), name)
    return next((lower[name] for name in known if name in lower), None)


def _guessed(names: Sequence[str]) -> tuple[dict[str, str], dict[str, str], dict[str, str | None]]:
    magnitudes: dict[str, str] = {}
    errors: dict[str, str] = {}
    systems: dict[str, str | None] = {}
    pixels = {"x", "X"} & set(names)  # beside which y is the other coordinate, no magnitude
    for way in _WAYS:
        for name in names:
            if pixels and name == "y":
                continue
            match = way.magnitude.fullmatch(name)
            if match is None or name.endswith(("_error", "_err")) or name == "mag_total":  # of a catalogue of ours
                continue
            theirs = match["band"]
            band = _band(theirs, way)
            if band in magnitudes:
                continue
            magnitudes[band] = name
            error = next((item for text in way.errors if (item := text.format(theirs)) in names), None)
            if error is not None:
                errors[band] = error
            systems[band] = ("AB" if band in _AB else "Vega" if band in _VEGA else None) if way.tells else None
    return magnitudes, errors, systems


def _band(theirs: str, way: _Way) -> str:
    if theirs == "Gaia":
        return "G"
    if "phot_" in way.magnitude.pattern:
        return _GAIA[theirs]
    return theirs.upper() if way.magnitude.pattern.endswith("_m") else theirs


def _colors(names: Sequence[str], magnitudes: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Bands that follow from one that is there and columns named as ``B-V``."""
    made: dict[str, tuple[str, str]] = {}
    pairs = [(name, *name.split("-")) for name in names if re.fullmatch(rf"(?:{_ONE})-(?:{_ONE})", name)]
    for _ in pairs:  # R from V-R, then I from R-I
        for name, one, two in pairs:
            known = {*magnitudes, *made}
            if two in known and one not in known:
                made[one] = (two, name)
            elif one in known and two not in known:
                made[two] = (one, f"-{name}")
    return made


def require_place(found: Layout, names: Sequence[str], where: str) -> None:
    """See that there are coordinates.

    Raises
    ------
    OptionError
        If not.
    """
    missing = [name for name in ("ra", "dec") if name not in found.quantities]
    if missing:
        raise OptionError(
            f"{where}: no column for {' and '.join(missing)} among {', '.join(map(str, names[:40]))}: name it, as "
            f"columns={{'{missing[0]}': '…'}}"
        )
