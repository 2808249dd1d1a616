"""Catalogues that a service on the network gives, through astroquery, with everything it gave kept on disk."""

from __future__ import annotations

import hashlib
import json
import math
import os
import queue
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from larun.errors import CorruptProduct, FileError, MissingExtra, OptionError
from larun.model.reference.reading import stars_of_table
from larun.model.reference.stars import ReferenceCatalog, ReferenceStars

__all__ = ["OnlineCatalog", "is_service", "service"]

_GAIA = "gaiadr3.gaia_source"
_GAIA_COLUMNS = (
    *("source_id", "ra", "dec", "ref_epoch", "pmra", "pmdec", "parallax", "phot_g_mean_mag", "phot_bp_mean_mag"),
    *("phot_rp_mean_mag", "phot_g_mean_flux_over_error", "phot_bp_mean_flux_over_error"),
    *("phot_rp_mean_flux_over_error", "phot_variable_flag"),
)
_VIZIER = re.compile(r"vizier:([A-Za-z0-9+./_-]{1,60})")
_STEP = 0.05  # degrees: fields whose centres are so near share what was asked for
_FORMAT = 1


class _Known(NamedTuple):
    """A short name, and what is known of it that its columns do not say."""

    table: str
    epoch: float | None = None


_SHORT = {
    "gaia": _Known(_GAIA),
    "2mass": _Known("II/246"),
    "ps1": _Known("II/349"),
    "refcat2": _Known("J/ApJ/867/105", 2015.5),
    "apass": _Known("II/336"),
}


def is_service(text: str) -> bool:
    """Whether a text names a service, not a file."""
    return text in _SHORT or text.startswith("vizier:")


def service(text: str, given: Mapping[str, Any], options: Mapping[str, Any]) -> OnlineCatalog:
    """The catalogue of a service.

    Raises
    ------
    OptionError
        If the name or an option makes no sense.
    """
    match = _VIZIER.fullmatch(text)
    if text not in _SHORT and match is None:
        raise OptionError(f"{text!r}: give a catalogue of VizieR as 'vizier:II/246'")
    known = _Known(match[1]) if match is not None else _SHORT[text]
    unknown = set(options) - {"cache", "timeout", "faintest"}
    if unknown:
        raise OptionError(f"no option {', '.join(sorted(unknown))}: a service has cache, timeout and faintest")
    faintest = options.get("faintest")
    if faintest is not None and known.table != _GAIA:
        raise OptionError(f"faintest={faintest!r}: only for 'gaia', whose bright stars are asked for alone")
    for name in ("timeout", "faintest"):
        value = options.get(name, 1.0)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
            raise OptionError(f"{name}={value!r}: must be a number above 0")
    kept = {**({} if known.epoch is None else {"epoch": known.epoch}), "name": text, **given}
    cache = options.get("cache")
    return OnlineCatalog(
        table=known.table,
        given=kept,
        faintest=None if faintest is None else float(faintest),
        cache=_user_cache() if cache is None else Path(cache),
        timeout=float(options.get("timeout") or 120.0),
    )


def _user_cache() -> Path:
    user = os.environ.get("XDG_CACHE_HOME")
    return (Path(user) if user else Path("~/.cache").expanduser()) / "larun" / "reference"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class OnlineCatalog(ReferenceCatalog):
    """A catalogue that is asked for circles through astroquery, and keeps what it was given.

    What is kept is named by the question: asked again, it is read from the disk, without network. Circles are rounded
    up to 0.05 degrees, so that frames of one field ask once.

    Parameters
    ----------
    table : str
        A table of Gaia, or a catalogue of VizieR.
    given : mapping
        Name, columns, systems and epoch, as :meth:`larun.ReferenceCatalog.open` takes them.
    faintest : float or None
        Of the stars of Gaia, G magnitude.
    cache : Path
        Folder.
    timeout : float
        Seconds after which no answer is waited for.
    """

    table: str
    given: Mapping[str, Any]
    faintest: float | None
    cache: Path
    timeout: float

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self.given["name"])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.table}, kept in {self.cache}>"

    def cone(self, ra: float, dec: float, radius: float) -> ReferenceStars:
        """The stars within a circle, from the disk or from the network.

        Parameters
        ----------
        ra, dec, radius : float
            Degrees.

        Raises
        ------
        FileError
            If the service does not answer within the time, or with an error; or what was kept is damaged.
        MissingExtra
            If it must be asked, and astroquery is not installed.
        """
        from larun.io.tables import read_table

        query = self._query(ra, dec, radius)
        path = self.cache / f"{_slug(self.name)}-{_digest(query)}.fits"
        if path.exists():
            try:
                table, _ = read_table(path)
            except CorruptProduct as error:
                raise CorruptProduct(
                    f"{path} was changed since it was kept: delete it, and it is asked for again"
                ) from error
            return ReferenceStars(table).cone(ra, dec, radius)
        stars = stars_of_table(self._ask(query), self.given, self.name).ordered()
        self._keep(path, stars, query)
        return stars.cone(ra, dec, radius)

    def _query(self, ra: float, dec: float, radius: float) -> dict[str, Any]:
        lon = round((round(ra / _STEP) * _STEP) % 360.0, 6) % 360.0
        lat = round(min(max(round(dec / _STEP) * _STEP, -90.0), 90.0), 6)
        wide = round(math.ceil((radius + _STEP) / _STEP) * _STEP, 6)
        return {
            "format": _FORMAT,
            "table": self.table,
            "ra": lon,
            "dec": lat,
            "radius": wide,
            "faintest": self.faintest,
            "given": {**self.given, "columns": dict(self.given.get("columns") or {})},
        }

    def _ask(self, query: Mapping[str, Any]) -> Any:
        asked = _ask_gaia if self.table == _GAIA else _ask_vizier
        try:
            import astroquery
        except ImportError as error:
            raise MissingExtra("astroquery", "online") from error
        where = f"{self.name} around RA {query['ra']:g}, Dec {query['dec']:g}"
        try:
            found = _within(self.timeout, lambda: asked(query, self.timeout))
        except TimeoutError as error:
            raise FileError(
                f"{where}: no answer within {self.timeout:g} s: try again, give timeout=…, or open a local catalogue"
            ) from error
        except Exception as error:  # astroquery and requests raise many kinds
            raise FileError(
                f"{where}: astroquery {getattr(astroquery, '__version__', '')} says {type(error).__name__}: "
                f"{' '.join(str(error).split())[:300]}. Without network, open a local catalogue instead"
            ) from error
        if found is None:
            raise FileError(f"{where}: {self.table} has no star within {query['radius']:g} degrees, or is no catalogue")
        return found

    def _keep(self, path: Path, stars: ReferenceStars, query: Mapping[str, Any]) -> None:
        from larun.io.tables import write_table

        try:
            self.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"{self.cache} cannot be made: {error.strerror or error}; give cache=…") from error
        write_table(path, stars.table, {"class": "ReferenceStars", "query": dict(query)}, overwrite=True)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name)[:40].strip("-") or "stars"


def _digest(query: Mapping[str, Any]) -> str:
    text = json.dumps(query, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """What some work gives; a thread that takes longer is left behind, as nothing can end it.

    Raises
    ------
    TimeoutError
        If it takes longer.
    """
    answers: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

    def run() -> None:
        try:
            answers.put((work(), None))
        except BaseException as error:  # handed over to whoever waits
            answers.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        found, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return found


def _ask_gaia(query: Mapping[str, Any], timeout: float) -> Any:
    from astroquery.gaia import Gaia

    faint = "" if query["faintest"] is None else f" AND phot_g_mean_mag < {query['faintest']!r}"
    text = (
        f"SELECT {', '.join(_GAIA_COLUMNS)} FROM {query['table']} WHERE 1 = CONTAINS(POINT('ICRS', ra, dec), "
        f"CIRCLE('ICRS', {query['ra']!r}, {query['dec']!r}, {query['radius']!r})){faint}"
    )
    found = Gaia.launch_job_async(text).get_results()
    return found if len(found) else None


def _ask_vizier(query: Mapping[str, Any], timeout: float) -> Any:
    from astropy.coordinates import SkyCoord
    from astropy.units import Quantity
    from astroquery.vizier import Vizier

    client = Vizier(columns=["*"], row_limit=-1, timeout=timeout)
    place = SkyCoord(query["ra"], query["dec"], unit="deg", frame="icrs")
    found = client.query_region(place, radius=Quantity(query["radius"], "deg"), catalog=query["table"])
    return found[0] if len(found) else None
