"""From a table of any catalogue to plain columns in our names and units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError
from larun.model.measure.positions import column_in, sky_column
from larun.model.reference.columns import QUANTITIES, Layout, layout, require_place
from larun.model.reference.stars import ReferenceStars, stars_from

__all__ = ["Mapped", "mapped", "stars_of_table"]

_NO_MAGNITUDE = 50.0  # beyond, it is a number that says "none": -999, 99.99
_MJD = 10000.0
_EPOCH = re.compile(r"\bEp(?:och)?\s*=\s*J?(\d{4}(?:\.\d+)?)")
_SYSTEMS = ("AB", "Vega", "ST")


class Mapped(NamedTuple):
    """Plain columns in our units, and the system of each band."""

    columns: dict[str, NDArray[Any]]
    systems: dict[str, str | None]


def stars_of_table(table: Any, given: Mapping[str, Any], where: str) -> ReferenceStars:
    """The stars of a table.

    Parameters
    ----------
    table : Table, QTable or DataFrame
        Of any catalogue.
    given : mapping
        ``columns``, ``name``, ``systems``, ``epoch``, as :meth:`larun.ReferenceCatalog.open` takes them.
    where : str
        The file, for messages, or "table".

    Raises
    ------
    OptionError
        As :meth:`larun.ReferenceCatalog.open`.
    """
    found = mapped(table, given, where)
    meta = getattr(table, "meta", None) or {}
    name = given.get("name") or (meta.get("name") if isinstance(meta.get("name"), str) else None) or where
    return stars_from(found.columns, str(name), found.systems)


def mapped(table: Any, given: Mapping[str, Any], where: str) -> Mapped:
    """Columns and systems of a table; rows without a position are left out.

    Raises
    ------
    OptionError
        As :func:`stars_of_table`.
    """
    source = _as_table(table, where)
    names = list(source.colnames)
    found = layout(names, given.get("columns"), where)
    made: dict[str, NDArray[Any]] = {}
    if "id" in found.quantities:
        made["id"] = _identifiers(source[found.quantities["id"]])
    made["ra"], made["dec"] = _places(source, found, names, where)
    for band, column in found.magnitudes.items():
        made[f"mag_{band}"] = _magnitude(source, column, where)
        if band in found.errors:
            made[f"mag_{band}_error"] = _error(source, found.errors[band], where)
    _forget_nothings(made)
    _add_colors(made, source, found, where)
    for name in ("pmra", "pmdec", "parallax"):
        if name in found.quantities:
            made[name] = _numbers(source, found.quantities[name], str(QUANTITIES[name][0]), where)
    epoch = _epoch(source, found, given, where)
    if epoch is not None:
        made["epoch"] = epoch
    for name, rule in (("variable", _variable), ("extended", _extended)):
        if name in found.quantities:
            column = found.quantities[name]
            values = rule(source[column], column)
            if values is not None:
                made[name] = values
            elif name in (given.get("columns") or {}):
                raise OptionError(f"{where}: column {column!r} says in no way that is known which stars are {name}")
    placed = np.isfinite(made["ra"]) & np.isfinite(made["dec"])
    if not placed.all():
        made = {name: values[placed] for name, values in made.items()}
    _check_places(made, found, where)
    made["ra"] = np.mod(made["ra"], 360.0) % 360.0  # twice: the remainder of a tiny negative number is 360
    return Mapped(made, _systems(source, found, given, where))


def _as_table(table: Any, where: str) -> Any:
    if hasattr(table, "to_numpy") and hasattr(table, "iloc"):
        from astropy.table import Table

        return Table.from_pandas(table)
    if hasattr(table, "colnames"):
        return table
    if hasattr(table, "provenance") and hasattr(table, "table"):
        return table.table
    raise OptionError(
        f"{where}: a {type(table).__name__} is no reference catalogue: give a file, a table, the folder of a store, a "
        "service such as 'gaia', or what larun.ReferenceCatalog.open made of one"
    )


def _places(
    source: Any, found: Layout, names: list[str], where: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    both = sky_column(source, names) if not {"ra", "dec"} & set(found.quantities) else None
    if both is not None:
        place = source[both].icrs
        return np.array(place.ra.deg), np.array(place.dec.deg)
    require_place(found, names, where)
    made = []
    for name, unit in (("ra", "hourangle"), ("dec", "deg")):
        column = source[found.quantities[name]]
        if getattr(column, "dtype", np.dtype(float)).kind in "SUO":
            made.append(_from_text(column, found.quantities[name], unit, where))
        else:
            made.append(_numbers(source, found.quantities[name], "deg", where))
    return made[0], made[1]


def _from_text(column: Any, name: str, unit: str, where: str) -> NDArray[np.float64]:
    """Degrees from numbers as text, or from sexagesimal text, whose right ascensions are hours."""
    from astropy.coordinates import Angle

    texts = [item.decode() if isinstance(item, bytes) else str(item) for item in column]
    try:
        if all(re.fullmatch(r"\s*[+-]?[\d.]+(?:[eE][+-]?\d+)?\s*", text) for text in texts):
            return np.array([float(text) for text in texts])
        return np.array([Angle(text, unit).deg for text in texts])
    except Exception as error:  # astropy and its parser raise many kinds
        raise OptionError(
            f"{where}: column {name!r} is no angle ({error}): give degrees, or text as 13:25:49.6"
        ) from error


def _check_places(made: Mapping[str, NDArray[Any]], found: Layout, where: str) -> None:
    dec, ra = made["dec"], made["ra"]
    if len(dec) and np.abs(dec).max() > 90:
        row = int(np.argmax(np.abs(dec)))
        raise OptionError(
            f"{where}: column {found.quantities.get('dec', 'dec')!r} has {dec[row]:g}, which is no declination in "
            "degrees: name the right column, as columns={'dec': '…'}, or state its unit"
        )
    if len(ra) and (ra.min() < -360 or ra.max() > 720):
        row = int(np.argmax(np.abs(ra)))
        raise OptionError(
            f"{where}: column {found.quantities.get('ra', 'ra')!r} has {ra[row]:g}, which is no right ascension in "
            "degrees: name the right column, as columns={'ra': '…'}, or state its unit"
        )


def _numbers(source: Any, name: str, unit: str, where: str) -> NDArray[np.float64]:
    column = source[name]
    own = getattr(column, "unit", None)
    if own is not None and (type(own).__name__ == "UnrecognizedUnit" or str(own).startswith(("mag(", "dex("))):
        column = np.ma.filled(np.ma.asarray(getattr(column, "value", column)).astype(float), np.nan)
    try:
        return column_in({name: column}, name, unit)
    except OptionError as error:
        raise OptionError(f"{where}: {error}") from error


def _magnitude(source: Any, name: str, where: str) -> NDArray[np.float64]:
    values = _numbers(source, name, "mag", where)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values) < _NO_MAGNITUDE, values, np.nan)


def _error(source: Any, name: str, where: str) -> NDArray[np.float64]:
    if name.endswith("flux_over_error"):
        ratio = _numbers(source, name, "", where)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(ratio > 0, 2.5 / np.log(10) / ratio, np.nan)
    values = _numbers(source, name, "mag", where)
    with np.errstate(invalid="ignore"):
        return np.where((values >= 0) & (values < _NO_MAGNITUDE), values, np.nan)


def _forget_nothings(made: dict[str, NDArray[Any]]) -> None:
    """A magnitude of 0 without any error is none: so ATLAS-RefCat2 says it."""
    for name in [item for item in made if item.startswith("mag_") and f"{item}_error" in made]:
        nothing = (made[name] == 0) & (made[f"{name}_error"] == 0)
        made[name] = np.where(nothing, np.nan, made[name])
        made[f"{name}_error"] = np.where(nothing, np.nan, made[f"{name}_error"])


def _add_colors(made: dict[str, NDArray[Any]], source: Any, found: Layout, where: str) -> None:
    """Magnitudes of bands that follow from another and a colour, with the errors of both."""
    for band, (known, column) in found.colors.items():
        name = column.removeprefix("-")
        color = _magnitude(source, name, where)
        made[f"mag_{band}"] = made[f"mag_{known}"] + (color if name == column else -color)
        error = next((item for item in (f"e_{name}", f"{name}_error", f"{name}_err") if item in source.colnames), None)
        if error is not None and f"mag_{known}_error" in made:
            made[f"mag_{band}_error"] = np.hypot(made[f"mag_{known}_error"], _error(source, error, where))


def _epoch(source: Any, found: Layout, given: Mapping[str, Any], where: str) -> NDArray[np.float64] | None:
    said = given.get("epoch")
    if said is not None:
        if isinstance(said, bool) or not isinstance(said, int | float) or not 1500 < said < 2500:
            raise OptionError(f"epoch={said!r}: must be a Julian year, such as 2016.0")
        return np.full(len(source), float(said))
    if "epoch" in found.quantities:
        years = _numbers(source, found.quantities["epoch"], "yr", where)
        with np.errstate(invalid="ignore"):  # Pan-STARRS gives days
            return np.where(years > _MJD, 2000.0 + (years - 51544.5) / 365.25, years)
    text = " ".join(
        str(getattr(source[found.quantities[name]], "description", None) or "")
        for name in ("ra", "dec")
        if name in found.quantities
    )
    told = _EPOCH.search(text)
    if told is not None and 1500 < float(told[1]) < 2500:
        return np.full(len(source), float(told[1]))
    if "Gaia" in source.colnames and "dGaia" in source.colnames:  # ATLAS-RefCat2 has the positions of Gaia DR2
        return np.full(len(source), 2015.5)
    return None


def _identifiers(column: Any) -> NDArray[Any]:
    values = np.asarray(column.filled("" if column.dtype.kind in "SUO" else 0)) if hasattr(column, "filled") else column
    values = np.asarray(values)
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    return np.array([str(item) for item in values], dtype=str) if len(values) else np.zeros(0, "U1")


def _words(column: Any) -> NDArray[np.str_] | None:
    if getattr(column.dtype, "kind", "") not in "SUO":
        return None
    values = [item.decode() if isinstance(item, bytes) else str(item) for item in column]
    return np.array([item.strip().upper() for item in values], dtype=str)


def _integers(column: Any) -> NDArray[np.int64]:
    numbers = column_in({"it": column}, "it", "")
    return np.where(np.isfinite(numbers), numbers, 0).astype(np.int64)


def _variable(column: Any, name: str) -> NDArray[np.bool_] | None:
    words = _words(column)
    if words is not None:
        known = {"VARIABLE", "NOT_AVAILABLE", "CONSTANT", "", "--", "NONE", "TRUE", "FALSE", "V", "N", "0", "1"}
        return np.isin(words, ["VARIABLE", "TRUE", "V", "1"]) if set(words.tolist()) <= known else None
    values = _integers(column)
    return np.asarray((values & 3) == 1 if name.lower() == "dupvar" else values != 0, bool)


def _extended(column: Any, name: str) -> NDArray[np.bool_] | None:
    words = _words(column)
    if words is not None:
        galaxies, stars = {"GALAXY", "G", "TRUE", "EXTENDED"}, {"STAR", "S", "FALSE", "POINT", "QSO", "", "--", "NONE"}
        return np.isin(words, sorted(galaxies)) if set(words.tolist()) <= galaxies | stars else None
    lower, values = name.lower(), _integers(column)
    if lower == "starnotgal":
        return np.asarray(values == 0, bool)
    if lower in ("type", "class", "objtype"):  # of SDSS: 3 is a galaxy, 6 a star
        return np.asarray(values == 3, bool) if set(np.unique(values).tolist()) <= {0, 3, 6} else None
    return np.asarray(values != 0, bool)


def _systems(source: Any, found: Layout, given: Mapping[str, Any], where: str) -> dict[str, str | None]:
    bands = [*found.magnitudes, *found.colors]
    made = {band: found.systems.get(band) for band in bands}
    for band, (known, _) in found.colors.items():
        made[band] = made.get(known)
    for band, column in found.magnitudes.items():
        told = (getattr(getattr(source[column], "info", None), "meta", None) or {}).get("photometric_system")
        made[band] = told if told in _SYSTEMS else made[band]  # of a catalogue that was calibrated here
        unit = str(getattr(source[column], "unit", ""))
        if unit.startswith("mag(") and unit[4:-1] in _SYSTEMS:
            made[band] = unit[4:-1]
    meta = (getattr(source, "meta", None) or {}).get("systems")
    said = given.get("systems")
    for told in (meta, said):
        if isinstance(told, str):
            told = dict.fromkeys(bands, told)
        if isinstance(told, Mapping):
            made |= {band: None if value is None else str(value) for band, value in told.items() if band in made}
    wrong = {value for value in made.values() if value is not None} - set(_SYSTEMS)
    if said is not None and not isinstance(said, str | Mapping):
        raise OptionError(f"systems={said!r}: give 'AB' or 'Vega', or one for each band: {{'g': 'AB'}}")
    if wrong:
        raise OptionError(f"{where}: systems {', '.join(sorted(wrong))}: must be {' or '.join(_SYSTEMS)}")
    if isinstance(said, Mapping) and set(said) - set(made):
        raise OptionError(
            f"{where}: systems for {', '.join(sorted(set(said) - set(made)))}: bands are {', '.join(made)}"
        )
    return made
