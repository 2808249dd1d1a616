"""Which stars are which: two lists against astroalign, a list and a catalogue against astrometry.net, a fit of TAN-SIP.

Lists have 500 stars, the brightest first, of which 30 % (or 60 %) are replaced in the second by others, as bright.
Twenty pairs are matched in one call, each turned, scaled, shifted and blurred at random (not mirrored: astroalign knows
no mirror).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require

__all__ = ["CASES"]

_PAIRS = 20
_WRONG = 0.3
_NOISE = 0.1
_SIDE = 2048.0
_INDEX = Path("/usr/share/astrometry")


# -- two lists ---------------------------------------------------------------------------------------------------------


def lists(folder: Path, size: Size) -> None:
    """Pairs of lists, and the matrices (2, 3) from the first to the second."""
    _make_lists(folder, size, _WRONG)


def wrong_lists(folder: Path, size: Size) -> None:
    """The same with twice as many stars that are not the same."""
    _make_lists(folder, size, 2 * _WRONG)


def _make_lists(folder: Path, size: Size, share: float) -> None:
    import numpy as np

    made: dict[str, Any] = {}
    for k in range(_PAIRS):
        rng = np.random.default_rng([5, k])
        one = rng.uniform(0, _SIDE, (size.stars, 2))
        angle, scale, shift = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.25), rng.uniform(-200, 200, 2)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        two = one @ turn.T + shift + rng.normal(0, _NOISE * scale, one.shape)
        wrong = rng.uniform(size=size.stars) < share
        two[wrong] = rng.uniform(0, _SIDE, (int(wrong.sum()), 2)) @ turn.T + shift
        made |= {f"one{k}": one + rng.normal(0, _NOISE, one.shape), f"two{k}": two}
        made[f"true{k}"] = np.column_stack([turn, shift])
    np.savez(folder / "lists.npz", **made)


def _lists(folder: Path) -> list[tuple[Any, Any]]:
    import numpy as np

    with np.load(folder / "lists.npz") as found:
        return [(found[f"one{k}"], found[f"two{k}"]) for k in range(_PAIRS)]


def _by_larun(pairs: list[tuple[Any, Any]]) -> list[Any]:
    from larun.algorithms.listmatch import match_lists

    found = [match_lists(one, two, degree=0) for one, two in pairs]
    return [None if made is None else made.transform for made in found]


def _by_astroalign(pairs: list[tuple[Any, Any]]) -> list[Any]:
    import astroalign

    made: list[Any] = []
    for one, two in pairs:
        try:
            made.append(astroalign.find_transform(one, two)[0])
        except (astroalign.MaxIterError, TypeError, ValueError):
            made.append(None)
    return made


def _corners() -> Any:
    import numpy as np

    return np.array([(0.0, 0.0), (_SIDE, 0.0), (0.0, _SIDE), (_SIDE, _SIDE)])


def _placed(found: list[Any]) -> Digest:
    import numpy as np

    blank = np.full((4, 2), np.nan)
    return {"corners": np.stack([blank if made is None else np.asarray(made(_corners())) for made in found])}


def _check_lists(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    with np.load(folder / "lists.npz") as found:
        true = np.stack([_corners() @ found[f"true{k}"][:, :2].T + found[f"true{k}"][:, 2] for k in range(_PAIRS)])
    off = {name: np.abs(made["corners"] - true).max(axis=(1, 2)) for name, made in (("larun", ours), ("peer", theirs))}
    right = {name: int(np.sum(values < 1.0)) for name, values in off.items()}
    require(right["larun"] == _PAIRS, f"larun matched {right['larun']} of {_PAIRS}")
    require(right["peer"] <= right["larun"], f"the peer matched {right['peer']}, larun {right['larun']}")
    worst = {name: float(np.nanmax(np.where(values < 1.0, values, np.nan), initial=0)) for name, values in off.items()}
    return (
        f"right within a pixel at the corners: larun {right['larun']} of {_PAIRS} (off by {worst['larun']:.2f} at "
        f"most), peer {right['peer']} ({worst['peer']:.2f})"
    )


# -- a list and the sky ------------------------------------------------------------------------------------------------

_CENTRE, _SCALE, _PIXELS = (83.0, -5.0), 36.0, 800


def wide_field(folder: Path, size: Size) -> None:
    """Tycho-2 stars of an index file of astrometry.net, as a catalogue and as an image of eight degrees sees them."""
    import numpy as np
    from astropy.io import fits

    from larun.algorithms.skyplane import to_tangent

    path = min(_INDEX.glob("index-tycho2-10*.fits"))
    with fits.open(path) as hdus:
        tables = {hdu.columns.names[0]: hdu for hdu in hdus[1:]}
        ends = np.frombuffer(tables["kdtree_range_stars"].data.tobytes(), "<f8")
        raw = np.frombuffer(tables["kdtree_data_stars"].data.tobytes(), "<u4").reshape(-1, 3)
        v = ends[:3] + raw / ends[6]
        magnitude = np.asarray(tables["MAG_VT"].data["MAG_VT"], float)
    order = np.argsort(magnitude, kind="stable")
    v, magnitude = v[order], magnitude[order]
    ra, dec = (
        np.degrees(np.arctan2(v[:, 1], v[:, 0])) % 360,
        np.degrees(np.arctan2(v[:, 2], np.hypot(v[:, 0], v[:, 1]))),
    )
    rng = np.random.default_rng(7)
    xy = to_tangent(ra, dec, _CENTRE) * 3600 / _SCALE + _PIXELS / 2
    with np.errstate(invalid="ignore"):
        seen = np.flatnonzero(((xy > 0) & (xy < _PIXELS)).all(axis=1))[: size.stars]
    wrong = rng.uniform(size=len(seen)) < _WRONG
    places = xy[seen] + rng.normal(0, _NOISE, (len(seen), 2))
    places[wrong] = rng.uniform(0, _PIXELS, (int(wrong.sum()), 2))
    near = np.flatnonzero(v @ _vector() > np.cos(np.radians(12.0)))
    np.savez(folder / "field.npz", xy=places, ra=ra[near], dec=dec[near], flux=10 ** (-0.4 * magnitude[seen]))


def _vector() -> Any:
    import numpy as np

    a, d = np.radians(_CENTRE)
    return np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def _field(folder: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(folder / "field.npz") as found:
        return dict(found)


_AROUND, _RANGE, _SHAPE = (83.5, -4.5), (30.0, 42.0), (_PIXELS, _PIXELS)


def _solved(field: dict[str, Any]) -> tuple[float, float]:
    from larun.algorithms.skymatch import find_field, refine_field, started

    xy, ra, dec = field["xy"], field["ra"], field["dec"]
    found = find_field(xy, ra, dec, shape=_SHAPE, centre=_AROUND, scale=_RANGE)
    begun = started(xy, ra, dec, found, shape=_SHAPE)
    made = None if begun is None else refine_field(xy, ra, dec, begun, shape=_SHAPE, order=1)
    return (float("nan"), float("nan")) if made is None else made.centre


def _solve_field(field: dict[str, Any]) -> tuple[float, float]:
    from astropy.wcs import WCS

    from larun.io.solve_field import Region, run_solve_field

    region = Region(_AROUND, 6.0, _RANGE)
    header = run_solve_field(field["xy"], field["flux"], _SHAPE, region, time_limit=60).wcs
    middle = (_PIXELS - 1) / 2
    ra, dec = WCS(header, naxis=2).all_pix2world(middle, middle, 0)
    return float(ra), float(dec)


def _centre(found: tuple[float, float]) -> Digest:
    import numpy as np

    return {"centre": np.array(found)}


def _check_field(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    from larun.algorithms.skyplane import from_tangent

    shift = (_PIXELS - 1) / 2 - _PIXELS / 2
    ra, dec = from_tangent(np.array([[shift, shift]]) * _SCALE / 3600, _CENTRE)
    true = np.array([ra[0], dec[0]])
    off = [float(np.abs(made["centre"] - true).max() * 3600 / _SCALE) for made in (ours, theirs)]
    require(off[0] < 0.1, f"larun's centre is off by {off[0]:.2f} pixels")
    require(off[1] < 2.0, f"the peer's centre is off by {off[1]:.2f} pixels")
    return f"centre of the image off by {off[0]:.3f} pixels (larun) and {off[1]:.3f} (peer)"


# -- the fit -----------------------------------------------------------------------------------------------------------

_TOUCH, _ARCSEC, _ORDER, _MISTAKEN = (120.0, 40.0), 0.4, 3, 0.03


def _bent(xy: Any) -> Any:
    """The true plane in degrees of pixels: eight pixels of distortion at the edge."""
    import numpy as np

    away = xy - (_SIDE - 1) / 2
    u = away / 1024
    turn = np.array([[-_ARCSEC, 0.02], [0.02, _ARCSEC]]) / 3600
    return (away + 8 * u * np.sum(u**2, axis=1, keepdims=True) + 2 * u * u[:, ::-1]) @ turn.T


def pairs(folder: Path, size: Size) -> None:
    """Matched stars, of which a few are mistaken for a neighbour some pixels away."""
    import numpy as np

    from larun.algorithms.skyplane import from_tangent

    rng = np.random.default_rng(11)
    xy = rng.uniform(0, _SIDE, (size.stars, 2))
    ra, dec = from_tangent(_bent(xy), _TOUCH)
    wrong = round(size.stars * _MISTAKEN)
    xy += rng.normal(0, _NOISE, xy.shape)
    xy[:wrong] += rng.uniform(-8, 8, (wrong, 2))
    np.savez(folder / "pairs.npz", xy=xy, ra=ra, dec=dec)


def _pairs(folder: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(folder / "pairs.npz") as found:
        return dict(found)


def _fitted(given: dict[str, Any]) -> Any:
    from astropy.io import fits
    from astropy.wcs import WCS

    from larun.algorithms.planefit import fit_plane
    from larun.algorithms.skyplane import sip_cards, to_tangent

    about = ((_SIDE - 1) / 2, (_SIDE - 1) / 2)
    fit = fit_plane(given["xy"], to_tangent(given["ra"], given["dec"], _TOUCH), _ORDER)
    return WCS(fits.Header(sip_cards(fit.transform, _TOUCH, about, (int(_SIDE), int(_SIDE)))))


def _by_astropy(given: dict[str, Any]) -> Any:
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import fit_wcs_from_points

    sky = SkyCoord(given["ra"], given["dec"], unit="deg")
    return fit_wcs_from_points(given["xy"].T, sky, projection="TAN", sip_degree=_ORDER)


def _over_image(wcs: Any) -> Digest:
    import numpy as np

    from larun.algorithms.skyplane import to_tangent

    side = np.linspace(0, _SIDE - 1, 15)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    off = (to_tangent(*wcs.all_pix2world(grid, 0).T, _TOUCH) - _bent(grid)) * 3600 / _ARCSEC
    return {"off": np.hypot(*off.T)}


def _check_fit(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    rms = [float(np.sqrt(np.mean(made["off"] ** 2))) for made in (ours, theirs)]
    require(rms[0] <= 0.5 * rms[1], f"the model is off by {rms[0]:.3f} pixels rms, that of astropy by {rms[1]:.3f}")
    return f"model off from the truth by {rms[0]:.3f} pixels rms (larun) and {rms[1]:.3f} (astropy)"


CASES = (
    Case(
        topic="solve",
        name="two lists",
        make=lists,
        larun=Side("larun", _lists, _by_larun, _placed),
        peer=Side("astroalign", _lists, _by_astroalign, _placed),
        check=_check_lists,
        full=Size(2048, stars=500),
        quick=Size(2048, stars=200),
        bar=1,
        unit="star",
        grows=False,
    ),
    Case(
        topic="solve",
        name="two lists, most stars wrong",
        make=wrong_lists,
        larun=Side("larun", _lists, _by_larun, _placed),
        peer=Side("astroalign", _lists, _by_astroalign, _placed),
        check=_check_lists,
        full=Size(2048, stars=500),
        quick=Size(2048, stars=200),
        bar=1,
        unit="star",
        slow=True,
        grows=False,
    ),
    Case(
        topic="solve",
        name="list and sky",
        make=wide_field,
        larun=Side("larun", _field, _solved, _centre),
        peer=Side("solve-field", _field, _solve_field, _centre, program=("solve-field",), children=True),
        check=_check_field,
        full=Size(_PIXELS, stars=500),
        quick=Size(_PIXELS, stars=300),
        bar=1,
        unit="star",
        grows=False,
    ),
    Case(
        topic="solve",
        name="TAN-SIP fit",
        make=pairs,
        larun=Side("larun", _pairs, _fitted, _over_image),
        peer=Side("astropy", _pairs, _by_astropy, _over_image),
        check=_check_fit,
        full=Size(2048, stars=350),
        quick=Size(2048, stars=150),
        bar=1,
        unit="star",
        grows=False,
    ),
)
