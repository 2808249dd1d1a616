"""Light curves as others read them: AAVSO, ExoClock, AstroImageJ."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from larun import flags as fl
from larun.errors import OptionError
from larun.io.astroimagej import write_columns
from larun.io.atomic import atomic_path, check_target
from larun.model.curves.measuring import trusted

if TYPE_CHECKING:
    from larun.model.lightcurve import LightCurve

__all__ = ["FORMATS", "write_aavso", "write_as", "write_exoclock", "write_measurement_table"]

#: Names of formats and the ends of their files.
FORMATS = {"aavso": "_aavso.txt", "exoclock": "_exoclock.txt", "aij": ".tbl"}

_TO_MAGNITUDE = 2.5 / math.log(10)
_MADE_BY = "larun"


def _word(text: str, what: str, most: int = 30) -> str:
    """Text that stands between commas in a line of its own."""
    made = "".join(letter if letter.isprintable() and letter not in ",#\t" else " " for letter in text).strip()[:most]
    if not made:
        raise OptionError(f"{what}={text!r}: must be some printable text")
    return made


def _write(path: Path, lines: list[str], overwrite: bool) -> Path:
    """Text that begins with a mark of larun, so that it may be replaced later; nothing else is."""
    check_target(path, overwrite=overwrite)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_aavso(
    curve: LightCurve,
    path: str | Path,
    *,
    name: str,
    observer: str,
    band: str,
    star: int = 1,
    magnitude: float | None = None,
    overwrite: bool = False,
) -> Path:
    """See :meth:`larun.LightCurve.write_aavso`."""
    table, good = curve.curve(star), curve.good(star)
    title, code, color = _word(name, "name"), _word(observer, "observer", 10), _word(band, "band", 10)
    lines = [
        "#TYPE=EXTENDED",
        f"#OBSCODE={code}",
        f"#SOFTWARE={_MADE_BY}",
        "#DELIM=,",
        "#DATE=JD",
        "#OBSTYPE=CCD",
        "#NAME,DATE,MAG,MERR,FILT,TRANS,MTYPE,CNAME,CMAG,KNAME,KMAG,AMASS,GROUP,CHART,NOTES",
    ]
    kind = "DIF" if magnitude is None else "STD"
    used = sum(item["used"] for item in curve.meta["stars"])
    for row in table[good & (np.asarray(table["flux"]) > 0)]:
        flux, error = float(row["flux"]), float(row["flux_error"])
        value = -2.5 * math.log10(flux) + (magnitude or 0.0)
        air = float(row["airmass"])
        cells = [
            title,
            f"{row['jd_utc'].value:.6f}",
            f"{value:.4f}",
            f"{_TO_MAGNITUDE * error / flux:.4f}",
            color,
            "NO",
            kind,
            "ENSEMBLE",
            "na",
            "na",
            "na",
            f"{air:.4f}" if math.isfinite(air) else "na",
            "na",
            "na",
            f"{used} comparison stars",
        ]
        lines.append(",".join(cells))
    return _write(Path(path), lines, overwrite)


def write_exoclock(curve: LightCurve, path: str | Path, *, star: int = 1, overwrite: bool = False) -> Path:
    """See :meth:`larun.LightCurve.write_exoclock`."""
    table, good, time = curve.curve(star), curve.good(star), curve.time(star)
    exposure = float(np.nanmedian(table["exposure"].value))
    lines = [
        f"#{_MADE_BY}: light curve, relative flux",
        f"#time: {'BJD_TDB' if curve.barycentric else 'JD_UTC'}, middle of the exposure",
        f"#exposure: {exposure:.1f} s",
        "#time flux flux_error",
    ]
    flux, error = np.asarray(table["flux"]), np.asarray(table["flux_error"])
    lines += [f"{t:.8f} {f:.6f} {e:.6f}" for t, f, e in zip(time[good], flux[good], error[good], strict=True)]
    return _write(Path(path), lines, overwrite)


def write_measurement_table(curve: LightCurve, path: str | Path, *, overwrite: bool = False) -> Path:
    """See :meth:`larun.LightCurve.write_measurements`."""
    first, about = curve.curve(1), curve.meta["stars"]
    stars = [curve.curve(row["star"]) for row in about if row["star"] <= curve.targets or row["used"]]
    names = [f"{'T' if n <= curve.targets else 'C'}{n}" for n in range(1, len(stars) + 1)]
    made: dict[str, Any] = {
        "Label": [str(name) for name in first["frame"]],
        "slice": list(range(1, len(first) + 1)),
        "larun_flagged": np.sum([~trusted(np.asarray(s["flags"], np.uint32)) for s in stars], axis=0).tolist(),
        "Saturated": np.sum([(np.asarray(s["flags"]) & np.uint32(fl.SATURATED)) != 0 for s in stars], axis=0).tolist(),
        "J.D.-2400000": (first["jd_utc"].value - 2400000.0).tolist(),
        "JD_UTC": first["jd_utc"].value.tolist(),
    }
    more = {"BJD_TDB": "bjd_tdb", "AIRMASS": "airmass", "EXPTIME": "exposure", "Source_Radius": "radius"}
    made |= {name: _plain(first, own) for name, own in more.items() if np.isfinite(_plain(first, own)).any()}
    for name, table in zip(names, stars, strict=True):
        made |= {f"rel_flux_{name}": _plain(table, "flux"), f"rel_flux_err_{name}": _plain(table, "flux_error")}
    for name, table in zip(names, stars, strict=True):
        made |= {
            f"X(FITS)_{name}": [value + 1 for value in _plain(table, "x")],
            f"Y(FITS)_{name}": [value + 1 for value in _plain(table, "y")],
            f"Source-Sky_{name}": _plain(table, "source_flux"),
            f"Source_Error_{name}": _plain(table, "source_flux_error"),
            f"Sky/Pixel_{name}": _plain(table, "sky"),
            f"FWHM_{name}": _plain(table, "fwhm"),
        }
    write_columns(path, made, overwrite=overwrite)
    return Path(path)


def _plain(table: Any, name: str) -> list[float]:
    values: list[float] = np.asarray(getattr(table[name], "value", table[name]), float).tolist()
    return values


def write_as(curve: LightCurve, kind: str, path: Path, about: dict[str, Any], *, overwrite: bool) -> Path:
    """Write one of :data:`FORMATS`; ``about`` has name, observer and band for the AAVSO."""
    if kind == "aavso":
        return write_aavso(curve, path, **about, overwrite=overwrite)
    if kind == "exoclock":
        return write_exoclock(curve, path, overwrite=overwrite)
    if kind == "aij":
        return write_measurement_table(curve, path, overwrite=overwrite)
    raise OptionError(f"format {kind!r}: must be one of {', '.join(FORMATS)}")
