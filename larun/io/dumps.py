"""Files of whole surveys as they are handed out, whose columns have no names in the file.

ATLAS-RefCat2 (Tonry et al. 2018, ApJ 867, 105): ``*.rc2``, whole numbers with commas. 2MASS point sources (Cutri et al.
2003): ``psc_aaa.gz``, with upright strokes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Dump", "dump_of", "in_units"]


class Dump(NamedTuple):
    """How a survey's files are laid out.

    Attributes
    ----------
    name : re.Pattern
        Of its files.
    delimiter : str
        Between columns.
    columns : tuple of str
        All of them, in order.
    divisors : dict of (float, str)
        Those that are read: what their numbers are to be divided by, and the unit that gives.
    """

    name: re.Pattern[str]
    delimiter: str
    columns: tuple[str, ...]
    divisors: Mapping[str, tuple[float, str]]


_RC2 = (
    "RA Dec plx dplx pmra dpmra pmdec dpmdec Gaia dGaia BP dBP RP dRP Teff AGaia dupvar Ag rp1 r1 r10 "
    "g dg gchi gcontrib r dr rchi rcontrib i di ichi icontrib z dz zchi zcontrib nstat J dJ H dH K dK"
)
_PSC = (
    "ra dec err_maj err_min err_ang designation j_m j_cmsig j_msigcom j_snr h_m h_cmsig h_msigcom h_snr k_m k_cmsig "
    "k_msigcom k_snr ph_qual rd_flg bl_flg cc_flg ndet prox pxpa pxcntr gal_contam mp_flg pts_key hemis date scan glon "
    "glat x_scan jdate j_psfchi h_psfchi k_psfchi j_m_stdap j_msig_stdap h_m_stdap h_msig_stdap k_m_stdap k_msig_stdap "
    "dist_edge_ns dist_edge_ew dist_edge_flg dup_src use_src a dist_opt phi_opt b_m_opt vr_m_opt nopt_mchs ext_key "
    "scan_key coadd_key coadd"
)
_RC2_BANDS = ("Gaia", "BP", "RP", "g", "r", "i", "z", "J", "H", "K")

_KNOWN = (
    Dump(
        re.compile(r".*\.rc2(?:\.(?:gz|bz2|xz))?"),
        ",",
        tuple(_RC2.split()),
        {"RA": (1e8, "deg"), "Dec": (1e8, "deg"), "plx": (100.0, "mas"), "pmra": (100.0, "mas/yr")}
        | {"pmdec": (100.0, "mas/yr"), "dupvar": (1.0, "")}
        | {f"{error}{band}": (1000.0, "mag") for band in _RC2_BANDS for error in ("", "d")},
    ),
    Dump(
        re.compile(r"psc_[ab][a-z]{2}(?:\.(?:gz|bz2|xz))?"),
        "|",
        tuple(_PSC.split()),
        {"ra": (1.0, "deg"), "dec": (1.0, "deg"), "designation": (1.0, ""), "ext_key": (1.0, "")}
        | {f"{band}_{what}": (1.0, "mag") for band in "jhk" for what in ("m", "msigcom")},
    ),
)


def dump_of(name: str, line: str) -> Dump | None:
    """The survey that a file is of, by its name and the number of columns in its first line; None for any other file.

    Examples
    --------
    >>> dump_of("stars.csv", "1,2,3") is None
    True
    """
    found = next((known for known in _KNOWN if known.name.fullmatch(name)), None)
    return found if found is not None and line.count(found.delimiter) == len(found.columns) - 1 else None


def in_units(table: Table, dump: Dump) -> Table:
    """The columns that are read, divided and with units."""
    made = table[[name for name in dump.columns if name in dump.divisors]]
    for name, (divisor, unit) in dump.divisors.items():
        if divisor != 1.0:
            made[name] = made[name] / divisor
        made[name].unit = unit or None
    return made
