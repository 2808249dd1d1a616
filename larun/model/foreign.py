"""Catalogues of other programs: which of their columns mean what, in larun's names and units."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from larun.errors import CatalogError, LarunError, OptionError
from larun.model import registry
from larun.model.measure import schema
from larun.model.measure.measuring import with_sky_coordinates
from larun.model.measure.positions import DEC, RA, Name, X, Y, column_in, find, sky_column, to_pixels
from larun.provenance import Provenance, Root, recording

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.catalog import SourceCatalog
    from larun.model.sky import SkyImage

__all__ = ["SYNONYMS", "catalog"]

_C = TypeVar("_C", bound="SourceCatalog")


def _names(*names: str) -> tuple[Name, ...]:
    return tuple(map(Name, names))


#: What other programs (photutils, SExtractor, DAOPHOT, SEP, VizieR) call the columns of larun, in lower case.
SYNONYMS: Mapping[str, tuple[Name, ...]] = {
    "id": _names("id", "number", "label"),
    "x": X,
    "y": Y,
    "x_error": _names("x_error", "x_err", "xerr"),
    "y_error": _names("y_error", "y_err", "yerr"),
    "ra": RA,
    "dec": DEC,
    "peak": _names("peak", "flux_max", "max_value"),
    "flux": _names("flux", "flux_fit", "flux_psf", "flux_auto", "segment_flux", "aperture_sum", "flux_aper"),
    "flux_error": _names(
        *("flux_error", "flux_err", "fluxerr_psf", "fluxerr_auto", "segment_flux_err", "segment_fluxerr"),
        *("aperture_sum_err", "fluxerr_aper", "fluxerr"),
    ),
    "snr": _names("snr", "snr_win"),
    "fwhm": _names("fwhm", "fwhm_image"),
    "ellipticity": _names("ellipticity"),
    "theta": _names("theta", "theta_image", "orientation"),
}
_RESERVED = frozenset(column.name for _, group in schema.GROUPS for column in group)
_DAOPHOT_UNITS = {"pixels": "pix", "magnitudes": "mag", "counts": "ct", "degrees": "deg"}
_COUNTS = ("ct", "adu", "DN", "dn", "electron")
_FREE_OF_UNIT = ("pix", "mag", "", "image")  # of these a bare number can mean only one thing


def catalog(cls: type[_C], table: Any, image: SkyImage | None, columns: Mapping[str, str]) -> _C:
    """See :meth:`larun.model.catalog.SourceCatalog.from_table`."""
    from larun.io.flat import flatten, settled

    source = settled(_as_table(table))
    source.meta = _plain_meta(source.meta)
    if source.meta.get("schema") == schema.VERSION and not columns:
        made = source.copy()  # larun's own, perhaps with more columns or fewer rows
    else:
        made = _converted(source, _comparable(source, _choose(source, columns), columns, image), image)
    made = _complete(made, image)
    made.meta = {**source.meta, "schema": schema.VERSION}
    if image is not None and not isinstance(made.meta.get("fwhm"), float):
        made.meta["fwhm"] = _star_size(made, image)
        recording().fit(fwhm=made.meta["fwhm"])
    flat = flatten(source)
    digest = hashlib.sha256(flat.yaml.encode())
    for values in flat.columns.values():
        digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    root = Provenance(root=Root(kind="memory", pixels=digest.hexdigest(), instrument=registry.name_of(cls)))
    recording().parent("table", root)
    return cls(table=made, image=image, provenance=root)


def _star_size(made: QTable, image: SkyImage) -> float:
    """The FWHM that apertures are scaled by: the median of the table's own, else measured."""
    if "fwhm" in made.colnames:
        known = made["fwhm"].value[np.isfinite(made["fwhm"].value)]
        if len(known):
            return float(np.median(known))
    return float(image.star_size().fwhm)


def _as_table(table: Any) -> QTable:
    from astropy.table import QTable

    if hasattr(table, "to_numpy") and hasattr(table, "iloc"):
        return QTable.from_pandas(table)
    if not hasattr(table, "colnames"):
        raise OptionError(
            f"a {type(table).__name__} is no table: give an astropy Table or QTable, or a pandas DataFrame"
        )
    if hasattr(table, "provenance"):
        raise OptionError("this is a catalogue of larun already: frame.photometer(catalog) measures at its positions")
    made = QTable(_with_known_units(table))
    # photutils has such a column for what it could not make, sky coordinates without a WCS for example
    empty = [name for name in made.colnames if _holds_none_only(made[name])]
    made.remove_columns(empty)
    return made


def _with_known_units(table: Any) -> Any:
    """The table with DAOPHOT's units under their standard names, and without those that are none or of text."""
    made = table.copy(copy_data=False)
    for column in made.itercols():
        unit = getattr(column, "unit", None)
        if unit is not None and hasattr(column, "dtype") and not hasattr(column, "to_value"):
            if column.dtype.kind not in "iufc":
                column.unit = None
            elif type(unit).__name__ == "UnrecognizedUnit":
                column.unit = _DAOPHOT_UNITS.get(str(unit))
    return made


def _holds_none_only(column: Any) -> bool:
    return getattr(getattr(column, "dtype", None), "kind", "") == "O" and all(value is None for value in column)


def _choose(source: QTable, columns: Mapping[str, str]) -> dict[str, Name]:
    """Which column of the table becomes which of larun's."""
    known = {column.name for column in (*schema.DETECTED, *schema.SKY, *schema.TOTAL)}
    for name, theirs in columns.items():
        if name not in known:
            raise OptionError(f"columns: {name!r} is none of larun's: {', '.join(sorted(known))}")
        if theirs not in source.colnames:
            raise OptionError(f"columns: the table has no {theirs!r}; it has {', '.join(source.colnames[:30])}")
    chosen = {name: Name(theirs) for name, theirs in columns.items()}
    if len({item.name for item in chosen.values()}) < len(chosen):
        raise OptionError(f"columns={dict(columns)}: one column cannot become two")
    used = {item.name for item in chosen.values()}
    for name, names in SYNONYMS.items():
        left = [theirs for theirs in source.colnames if theirs not in used]
        found = find(left, names)
        if name not in chosen and found is not None:
            chosen[name] = Name(*found)
            used.add(found[0])
    for name in known - set(SYNONYMS) - {"flags"}:
        if name not in chosen and name in source.colnames and name not in used:
            chosen[name] = Name(name)
    return chosen


def _comparable(
    source: QTable, chosen: dict[str, Name], given: Mapping[str, str], image: SkyImage | None
) -> dict[str, Name]:
    """Without the fluxes in counts or ADU on an image in electrons, or the other way round.

    SExtractor calls whatever its image holds counts. Unless the caller names them, such columns stay as they are.
    """
    from astropy.units import Unit

    if image is None:
        return chosen
    fluxes = {column.name for column in (*schema.DETECTED, *schema.SKY) if column.unit == "image"} - set(given)
    other = set()
    for name in fluxes & set(chosen):
        own = getattr(source[chosen[name].name], "unit", None)
        if own is not None and str(own) in _COUNTS and not Unit(own).is_equivalent(Unit(image.unit)):
            other.add(name)
    return {name: theirs for name, theirs in chosen.items() if name not in other}


def _converted(source: QTable, chosen: Mapping[str, Name], image: SkyImage | None) -> QTable:
    """The columns in larun's order, names and units, then the others under their own names."""
    from astropy.table import QTable

    columns = {column.name: column for column in (*schema.DETECTED, *schema.SKY, *schema.TOTAL)}
    made = QTable()
    for name, column in columns.items():
        if name in chosen:
            _add(made, source, column, chosen[name], image)
    taken = {item.name for item in chosen.values()}
    for name in source.colnames:
        if name not in taken:
            made[_free(name, made.colnames)] = source[name]
    return made


def _add(made: QTable, source: QTable, column: schema.Column, theirs: Name, image: SkyImage | None) -> None:
    own = getattr(source[theirs.name], "unit", None)
    if np.dtype(column.dtype).kind in "iu":
        values = np.asarray(source[theirs.name])
        if values.dtype.kind not in "iu" or (len(values) and not _fits(values, np.dtype(column.dtype))):
            made[_free(theirs.name, made.colnames)] = source[theirs.name]  # a name, or too large
            return
        unit, data = "", values.astype(column.dtype)
    else:
        unit = column.unit if column.unit != "image" else _image_unit(own, image)
        data = column_in(source, theirs.name, unit, needs_unit=column.unit not in _FREE_OF_UNIT) - theirs.first
    one = schema.table((column._replace(unit=unit),), {column.name: data}, "")
    made[column.name] = one[column.name]


def _fits(values: Any, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return int(values.min()) >= limits.min and int(values.max()) <= limits.max


def _image_unit(own: Any, image: SkyImage | None) -> str:
    """The unit of a flux: the image's, where the table states one."""
    if own is None:
        return ""
    return str(own) if image is None else image.unit


def _free(name: str, taken: Iterable[str]) -> str:
    """A name for a column that stays: none that means something else among larun's."""
    used = set(taken)
    while name in used or re.sub(r"_\d+$", "", name) in _RESERVED:
        name = f"original_{name}"
    return name


def _complete(made: QTable, image: SkyImage | None) -> QTable:
    """The table with ``id``, and with pixels from the sky or the sky from pixels."""
    names = made.colnames
    if not ("x" in names and "y" in names):
        x, y = _pixels(made, image)
        fresh = schema.table(schema.DETECTED, {"x": x, "y": y}, "")
        for name in ("y", "x"):
            if name in made.colnames:
                made.remove_column(name)
            made.add_column(fresh[name], name=name, index=0)
    if image is not None and not ("ra" in names and "dec" in names):
        x, y = (np.asarray(made[name].value, dtype=float) for name in ("x", "y"))
        fresh = schema.table(schema.DETECTED, with_sky_coordinates(image, x, y), "")
        for name in fresh.colnames:
            made[name] = fresh[name]
    if "id" not in names:
        numbers = schema.table(schema.DETECTED, {"id": np.arange(1, len(made) + 1)}, "")
        made.add_column(numbers["id"], name="id", index=0)
    return made


def _pixels(made: QTable, image: SkyImage | None) -> Any:
    from astropy.coordinates import SkyCoord

    where = sky_column(made, made.colnames)
    sky: Any = None
    if "ra" in made.colnames and "dec" in made.colnames:
        sky = SkyCoord(made["ra"], made["dec"], frame="icrs")
    elif where is not None:
        sky = made[where]
    if sky is None:
        raise CatalogError(
            f"no columns x and y, nor ra and dec, among {', '.join(made.colnames[:30])}: say columns={{…}}"
        )
    if image is None:
        raise CatalogError("the table has sky coordinates only: give image=frame, whose WCS turns them into pixels")
    return to_pixels(image, sky)


def _plain_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that every format can hold: the rest as text."""
    made = {}
    for key, value in meta.items():
        plain = value.item() if isinstance(value, np.generic) else value
        try:
            json.dumps(plain, allow_nan=False)
            made[str(key)] = list(plain) if isinstance(plain, tuple) else plain
        except (TypeError, ValueError, LarunError):
            made[str(key)] = str(plain)
    return made
