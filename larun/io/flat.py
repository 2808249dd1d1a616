"""Tables as plain arrays and a text that says how to put them together again, for formats that know only arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from astropy.table import QTable

__all__ = ["Flat", "flatten", "restore", "same_table", "settled"]

#: Numbers, truth values and text; numpy's letters for them.
_KINDS = "biufcU"


class Flat(NamedTuple):
    """A table taken apart."""

    columns: dict[str, NDArray[Any]]
    """Arrays of numbers or text, none masked; a column of several parts (a time, a mask) gives several."""
    units: dict[str, str]
    descriptions: dict[str, str]
    yaml: str
    """Units, descriptions, metadata and what the parts make, in the form of astropy's ECSV and Parquet files."""


def settled(table: QTable) -> QTable:
    """The table with bytes as text, one value under every mask, and no mask that hides nothing.

    So equal tables have equal bytes.

    Raises
    ------
    OptionError
        If a column holds Python objects, or has no rows in common with the others.
    """
    made = table.copy(copy_data=False)
    for name in made.colnames:
        column = made[name]
        dtype = getattr(column, "dtype", None)
        if dtype is None:  # a mixin, such as sky coordinates: taken apart when it is written
            continue
        if dtype.kind == "S":
            made.replace_column(name, _as_text(column, name))
        elif dtype.kind not in _KINDS:
            raise OptionError(
                f"column {name!r} holds {dtype}: only numbers, truth values and text can be stored; remove it"
            )
        if getattr(made[name], "mask", None) is not None and hasattr(made[name], "filled"):
            made.replace_column(name, _same_below_masks(made[name]))
    return made


def _as_text(column: Any, name: str) -> Any:
    try:
        text = np.char.decode(np.asarray(column), "utf-8")
    except UnicodeDecodeError as error:
        raise OptionError(f"column {name!r} holds bytes that are no text ({error}): decode them first") from error
    mask = getattr(column, "mask", None)
    kind = type(column)
    made = kind(text) if mask is None else kind(text, mask=mask)
    made.info.description = column.info.description
    return made


def _same_below_masks(column: Any) -> Any:
    hidden = np.asarray(column.mask)
    if not hidden.any():  # a mask that hides nothing is none
        return column.unmasked if hasattr(column, "unmasked") else column.filled()
    made = column.copy()
    empty: Any = {"f": np.nan, "c": np.nan, "U": ""}.get(made.dtype.kind, 0)
    if hasattr(made, "unmasked"):
        made.unmasked.view(np.ndarray)[hidden] = empty
    else:
        made.data.data[hidden] = empty
    return made


def flatten(table: QTable) -> Flat:
    """Take a table apart.

    Raises
    ------
    OptionError
        If a column cannot be taken apart into numbers and text.
    """
    from astropy.table import meta, serialize
    from astropy.utils.data_info import serialize_context_as
    from yaml import YAMLError  # astropy requires it

    made = settled(table)
    try:
        with serialize_context_as("hdf5"):  # masks become columns of their own, times two numbers
            plain = serialize.represent_mixins_as_columns(made)
        text = "\n".join(meta.get_yaml_from_table(plain))
    except (ValueError, TypeError, KeyError, YAMLError) as error:
        raise OptionError(f"the table or its metadata cannot be stored: {error}") from error
    if len(set(plain.colnames)) < len(plain.colnames):  # pragma: no cover - astropy renames before
        raise OptionError(f"columns of the same name: {plain.colnames}")
    columns = {name: np.asarray(plain[name]) for name in plain.colnames}
    units = {name: str(plain[name].info.unit) for name in columns if plain[name].info.unit is not None}
    descriptions = {name: plain[name].info.description for name in columns if plain[name].info.description}
    return Flat(columns, units, descriptions, text)


def restore(columns: Mapping[str, NDArray[Any]], yaml: str) -> QTable:
    """The table that :func:`flatten` took apart."""
    from astropy.table import Column, QTable, meta, serialize

    header = meta.get_header_from_yaml(yaml.split("\n"))
    attributes = {row["name"]: row for row in header["datatype"]}
    made = QTable(meta=header.get("meta", {}))
    for name, values in columns.items():
        about = {key: attributes[name].get(key) for key in ("description", "format", "unit", "meta")}
        made[name] = Column(values, **{key: value for key, value in about.items() if value is not None})
    return serialize._construct_mixins_from_columns(made)


def same_table(one: QTable, two: QTable) -> bool:
    """Whether names, units, descriptions, metadata and every value agree; NaN is one value, text has no width."""
    if one.colnames != two.colnames or dict(one.meta) != dict(two.meta):
        return False
    first, second = (flatten(_bare(table)) for table in (one, two))
    if first.yaml != second.yaml or list(first.columns) != list(second.columns):
        return False
    return all(_same_values(a, second.columns[name]) for name, a in first.columns.items())


def _bare(table: QTable) -> QTable:
    made = table.copy(copy_data=False)
    made.meta = {}
    return made


def _same_values(one: NDArray[Any], two: NDArray[Any]) -> bool:
    if one.shape != two.shape or one.dtype.kind != two.dtype.kind:
        return False
    if one.dtype.kind == "U":
        return bool((one == two).all())
    one, two = (array.astype(array.dtype.newbyteorder("="), copy=False) for array in (one, two))
    if one.dtype != two.dtype:
        return False
    if one.dtype.kind in "fc":
        lost = np.isnan(one)
        if not np.array_equal(lost, np.isnan(two)):
            return False
        one, two = one[~lost], two[~lost]
    return one.tobytes() == two.tobytes()
