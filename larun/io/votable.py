"""Catalogues as VOTable 1.4, for TOPCAT, Aladin and the Virtual Observatory.

The numbers are a ``BINARY2`` stream (VOTable 1.4, section 6.4), so they keep every bit; units follow VOUnits 1.1, with
those it does not know in quotes. VOTable has no unsigned numbers of 16 bits and more, and no signed ones of 8: they
become the next wider type, 64-bit ones beyond its range become text; the reader here gives back what they were.
Record, layout and digest stand in ``INFO`` elements at the top of the file.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from larun.io.flat import Flat, flatten, restore
from larun.io.sealed import UNSEALED, Sealed

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["UCDS", "VOTABLE", "ucd_of"]

_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    ' xsi:schemaLocation="http://www.ivoa.net/xml/VOTable/v1.3 http://www.ivoa.net/xml/VOTable/VOTable-1.4.xsd">\n'
)

#: Unified Content Descriptors (IVOA, UCD1+ 1.5) of the columns of a catalogue; ``_1`` … at the end does not count.
UCDS: Mapping[str, str] = {
    "id": "meta.id;meta.main",
    "x": "pos.cartesian.x;instr.det",
    "y": "pos.cartesian.y;instr.det",
    "x_error": "stat.error;pos.cartesian.x;instr.det",
    "y_error": "stat.error;pos.cartesian.y;instr.det",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "peak": "phot.count;stat.max",
    "flux": "phot.count",
    "flux_error": "stat.error;phot.count",
    "snr": "stat.snr",
    "fwhm": "instr.det.psf",
    "ellipticity": "src.ellipticity",
    "theta": "pos.posAng",
    "flags": "meta.code.qual",
    "sky": "instr.background",
    "sky_error": "stat.error;instr.background",
    "aperture_flux": "phot.count",
    "aperture_flux_error": "stat.error;phot.count",
    "mag": "phot.mag",
    "mag_error": "stat.error;phot.mag",
    "area_fraction": "stat.filling",
    "aperture_flags": "meta.code.qual",
    "semi_major": "phys.angSize.smajAxis",
    "semi_minor": "phys.angSize.sminAxis",
    "ellipse_theta": "pos.posAng",
    "ellipse_flux": "phot.count",
    "ellipse_flux_error": "stat.error;phot.count",
    "ellipse_mag": "phot.mag",
    "ellipse_mag_error": "stat.error;phot.mag",
    "ellipse_area_fraction": "stat.filling",
    "ellipse_flags": "meta.code.qual",
    "kron_radius": "src.morph.param",
    "kron_flux": "phot.count",
    "kron_flux_error": "stat.error;phot.count",
    "kron_mag": "phot.mag",
    "kron_mag_error": "stat.error;phot.mag",
    "kron_area_fraction": "stat.filling",
    "kron_flags": "meta.code.qual",
    "x_win": "pos.cartesian.x;instr.det",
    "y_win": "pos.cartesian.y;instr.det",
    "x_win_error": "stat.error;pos.cartesian.x;instr.det",
    "y_win_error": "stat.error;pos.cartesian.y;instr.det",
    "size_excess": "src.morph.param",
    "star_p_value": "src.class.starGalaxy",
    "mag_total": "phot.mag",
    "mag_total_error": "stat.error;phot.mag",
    "x_psf": "pos.cartesian.x;instr.det",
    "y_psf": "pos.cartesian.y;instr.det",
    "x_psf_error": "stat.error;pos.cartesian.x;instr.det",
    "y_psf_error": "stat.error;pos.cartesian.y;instr.det",
    "flux_psf": "phot.count",
    "flux_psf_error": "stat.error;phot.count",
    "mag_psf": "phot.mag",
    "mag_psf_error": "stat.error;phot.mag",
    "psf_sky": "instr.background",
    "psf_chi2": "stat.fit.chi2",
    "psf_share": "stat.filling",
    "psf_flags": "meta.code.qual",
    "psf_group": "meta.id.part",
    "psf_status": "meta.code.status",
    "flux_limit": "phot.count;stat.max",
}

# numpy's type, what is stored, VOTable's word for it
_TYPES = {
    "u1": (">u1", "unsignedByte"),
    "i1": (">i2", "short"),
    "i2": (">i2", "short"),
    "u2": (">i4", "int"),
    "i4": (">i4", "int"),
    "u4": (">i8", "long"),
    "i8": (">i8", "long"),
    "u8": (">i8", "long"),
    "f2": (">f4", "float"),
    "f4": (">f4", "float"),
    "f8": (">f8", "double"),
    "c8": (">c8", "floatComplex"),
    "c16": (">c16", "doubleComplex"),
}
#: VOUnits 1.1, tables 1 to 4. (What astropy takes for one depends on what it has read before.)
_VOUNIT = re.compile(
    "(?:[yzafpnumcdhkMGTPEZY]|da)?(?:A|a|adu|Angstrom|arcmin|arcsec|AU|barn|beam|bin|bit|byte|C|cd|chan|count|ct|d|D|dB"
    "|deg|eV|erg|F|g|G|h|H|Hz|J|Jy|K|lm|lx|lyr|m|mag|mas|min|mol|N|Ohm|Pa|pc|ph|photon|pix|pixel|R|rad|Ry|s|S|solLum"
    "|solMass|solRad|sr|T|u|V|voxel|W|Wb|yr)"
)
_BAD_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE = 76 * 48


class _Field(NamedTuple):
    """A column as it is stored."""

    name: str
    stored: NDArray[Any]
    datatype: str
    arraysize: str


def ucd_of(name: str) -> str | None:
    """The UCD of a column by its name; None for one that is not known.

    Examples
    --------
    >>> ucd_of("mag_error_2")
    'stat.error;phot.mag'
    """
    return UCDS.get(name) or UCDS.get(re.sub(r"_\d+$", "", name))


def _encode(table: QTable, record: str) -> bytes:
    flat = flatten(table)
    fields = [_field(name, values) for name, values in flat.columns.items()]
    layout = [[name, values.dtype.str, list(values.shape[1:])] for name, values in flat.columns.items()]
    notes = json.dumps({"record": record, "yaml": flat.yaml, "layout": layout}, sort_keys=True, separators=(",", ":"))
    lines = [
        _HEAD,
        f' <INFO name="larun_sha256" value="{UNSEALED}"/>\n',
        f' <INFO name="larun" value={_attribute(notes)}/>\n',
        ' <RESOURCE type="results">\n  <TABLE name="sources" nrows="' + str(len(table)) + '">\n',
        *_params(table.meta, taken := set[str]()),
        *(_field_element(field, flat, taken) for field in fields),
        '   <DATA>\n    <BINARY2>\n     <STREAM encoding="base64">\n',
        *_stream(fields, len(table)),
        "     </STREAM>\n    </BINARY2>\n   </DATA>\n  </TABLE>\n </RESOURCE>\n</VOTABLE>\n",
    ]
    return "".join(lines).encode("utf-8")


def _attribute(text: str) -> str:
    return quoteattr(_BAD_XML.sub("\ufffd", text), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _field(name: str, values: NDArray[Any]) -> _Field:
    shape = "x".join(str(length) for length in reversed(values.shape[1:]))
    kind, code = values.dtype.kind, values.dtype.str[1:]
    if kind == "u" and code == "u8" and values.size and int(values.max()) >= 1 << 63:
        values = values.astype("U20")
        kind = "U"
    if kind == "U":
        return _text_field(name, values, shape)
    if kind == "b":
        return _Field(name, np.where(values, b"T", b"F").astype("S1"), "boolean", shape)
    stored, datatype = _TYPES[code]
    return _Field(name, values.astype(stored), datatype, shape)


def _text_field(name: str, values: NDArray[Any], shape: str) -> _Field:
    width = max(1, values.dtype.itemsize // 4)
    plain = all(text.isascii() for text in values.reshape(-1).tolist())
    sizes = f"{width}x{shape}" if shape else str(width)
    if plain:
        return _Field(name, np.char.encode(values, "ascii").astype(f"S{width}"), "char", sizes)
    coded = [text.encode("utf-16-be") for text in values.reshape(-1).tolist()]
    units = max(len(item) for item in coded) // 2  # a letter beyond the basic plane takes two
    stored = np.array([item.ljust(2 * units, b"\0") for item in coded], f"V{2 * units}").reshape(values.shape)
    return _Field(name, stored, "unicodeChar", f"{units}x{shape}" if shape else str(units))


def _names(name: str, taken: set[str]) -> str:
    """The name as an attribute, with an ID beside it where XML would not take the name for one."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    plain = plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}"
    identity = plain
    while identity in taken:
        identity = f"{plain}_{len(taken)}"
    taken.add(identity)
    return f"name={_attribute(name)}" + ("" if identity == name else f' ID="{identity}"')


def _params(meta: Mapping[str, Any], taken: set[str]) -> Iterator[str]:
    """Numbers and texts of the metadata as PARAM elements, which other programs show; all of it is in the notes."""
    for key, value in meta.items():
        if isinstance(value, bool):
            kind, text, size = "boolean", str(value).lower(), ""
        elif isinstance(value, str):
            kind, text, size = "unicodeChar", value, ' arraysize="*"'
        elif isinstance(value, int | float):
            kind, text, size = ("long" if isinstance(value, int) else "double"), repr(value), ""
            if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
                continue
        elif isinstance(value, list) and len(value) > 1 and all(isinstance(item, float) for item in value):
            kind, text, size = "double", " ".join(map(repr, value)), f' arraysize="{len(value)}"'
        else:
            continue
        text = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}.get(text, text) if kind == "double" else text
        yield f'   <PARAM {_names(str(key), taken)} datatype="{kind}"{size} value={_attribute(text)}/>\n'


def _field_element(field: _Field, flat: Flat, taken: set[str]) -> str:
    about = f'   <FIELD {_names(field.name, taken)} datatype="{field.datatype}"'
    if field.arraysize:
        about += f' arraysize="{field.arraysize}"'
    unit = _vounit(flat.units.get(field.name, ""))
    if unit:
        about += f" unit={_attribute(unit)}"
    ucd = ucd_of(field.name)
    if ucd:
        about += f' ucd="{ucd}"'
    description = flat.descriptions.get(field.name)
    if not description:
        return about + "/>\n"
    return f"{about}>\n    <DESCRIPTION>{_content(description)}</DESCRIPTION>\n   </FIELD>\n"


def _content(text: str) -> str:
    """A text between tags; a carriage return by its number, since line ends may be changed on the way."""
    return escape(_BAD_XML.sub("\ufffd", text), {"\r": "&#13;"})


def _vounit(text: str) -> str:
    """A unit in the words of VOUnits, those it does not have (electron) in quotes."""
    if not text:
        return ""
    from astropy.units import Unit, UnrecognizedUnit

    unit = Unit(text, parse_strict="silent")
    if isinstance(unit, UnrecognizedUnit) or not hasattr(unit, "bases"):
        return "" if "'" in text else f"'{re.sub('[^A-Za-z_]', '_', text)}'"
    words = [_word(base) + (f"**{_power(power)}" if power != 1 else "") for base, power in _factors(unit)]
    scale = "" if unit.scale == 1 else repr(float(unit.scale))
    return scale + ".".join(words)


def _factors(unit: Any) -> Iterator[tuple[Any, Any]]:
    return zip(unit.bases, unit.powers, strict=True)


def _power(power: Any) -> str:
    return str(int(power)) if power == int(power) else f"({power})"


def _word(base: Any) -> str:
    name: str = base.name
    if not _VOUNIT.fullmatch(name):
        return f"'{re.sub('[^A-Za-z_]', '_', name)}'"
    return {"pix": "pixel"}.get(name, name)


def _packed(fields: list[_Field]) -> np.dtype[Any]:
    """A row of the stream: one bit a column for "no value", here all zero, then the columns."""
    parts: list[Any] = [("null", f"V{(len(fields) + 7) // 8}")]
    parts += [(f"f{number}", field.stored.dtype, field.stored.shape[1:]) for number, field in enumerate(fields)]
    return np.dtype(parts)


def _stream(fields: list[_Field], rows: int) -> Iterator[str]:
    packed = np.zeros(rows, _packed(fields))
    for number, field in enumerate(fields):
        packed[f"f{number}"] = field.stored
    content = packed.tobytes()
    for start in range(0, len(content), _LINE):
        yield base64.b64encode(content[start : start + _LINE]).decode("ascii") + "\n"


def _decode(content: bytes) -> tuple[QTable, dict[str, Any]]:
    from xml.etree import ElementTree

    space = "{http://www.ivoa.net/xml/VOTable/v1.3}"
    root = ElementTree.fromstring(content)
    notes = json.loads(next(info.get("value", "") for info in root.iter(f"{space}INFO") if info.get("name") == "larun"))
    data = base64.b64decode("".join((next(root.iter(f"{space}STREAM")).text or "").split()))
    rows = int(next(root.iter(f"{space}TABLE")).get("nrows", "0"))
    empty = []
    for (name, dtype, shape), field in zip(notes["layout"], root.iter(f"{space}FIELD"), strict=True):
        empty.append(_Field(name, _stored_like(field, dtype, shape), field.get("datatype", ""), ""))
    packed = np.frombuffer(data, _packed(empty), rows)
    columns = {
        field.name: _original(packed[f"f{number}"], field.datatype, dtype)
        for number, (field, (_, dtype, _)) in enumerate(zip(empty, notes["layout"], strict=True))
    }
    return restore(columns, notes["yaml"]), json.loads(notes["record"])


def _stored_like(field: Any, dtype: str, shape: list[int]) -> NDArray[Any]:
    width = (field.get("arraysize") or "1").split("x")[0]
    kind = field.get("datatype")
    if kind == "char":
        stored = f"S{width}"
    elif kind == "unicodeChar":
        stored = f"V{2 * int(width)}"
    else:
        stored = "S1" if kind == "boolean" else _TYPES[dtype[1:]][0]
    return np.zeros((0, *shape), stored)


def _original(stored: NDArray[Any], datatype: str, dtype: str) -> NDArray[Any]:
    if datatype == "boolean":
        return np.asarray(stored == b"T")
    if datatype == "char":
        return np.asarray(np.char.decode(stored, "ascii")).astype(dtype)
    if datatype == "unicodeChar":
        text = [bytes(item).decode("utf-16-be").rstrip("\0") for item in stored.reshape(-1)]
        return np.array(text, dtype).reshape(stored.shape)
    return stored.astype(dtype)


def _record(content: bytes) -> dict[str, Any]:
    from xml.etree import ElementTree

    for _, element in ElementTree.iterparse(io.BytesIO(content)):  # it stands before the columns
        if element.tag.endswith("}INFO") and element.get("name") == "larun":
            record: dict[str, Any] = json.loads(json.loads(element.get("value", ""))["record"])
            return record
    raise ValueError("it holds no INFO of larun")


VOTABLE = Sealed(
    name="VOTable",
    suffixes=(".vot", ".votable", ".xml"),
    starts=lambda start: start.startswith(b"<?xml") and b"<VOTABLE" in start,
    seal=re.compile(rb'<INFO name="larun_sha256" value="([0-9a-f]{64})"/>'),
    encode=_encode,
    decode=_decode,
    record=_record,
    text=True,
)
