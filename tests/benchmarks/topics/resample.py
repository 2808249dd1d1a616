"""A calibrated image on the pixels of another WCS, against reproject: by interpolation, and by exact areas."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import READ_NOISE, pair

__all__ = ["CASES"]

_TURN = math.radians(3.0)
_SHIFT = (7.3, -4.6)  # pixels
_DEGREES = 1.7e-4  # a pixel on the sky: 0.6 arcsec
_COARSER = 1.6  # pixels of the grid onto which areas are added up
_RADIUS = 8.0  # of apertures, in pixels of the input
_BRIGHT, _APART = 1e5, 30.0  # electrons, pixels


def _cards(side: int, *, turn: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Any:
    """A tangential projection; the sky lies turned and shifted on the image."""
    c, s = (_DEGREES * scale * value for value in (math.cos(turn), math.sin(turn)))
    middle = (side / scale + 1) / 2
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.1, "CRVAL2": 32.2, "CD1_1": -c, "CD1_2": s}
    return cards | {"CD2_1": s, "CD2_2": c, "CRPIX1": middle + shift[0], "CRPIX2": middle + shift[1]}


def _target(side: int, scale: float) -> dict[str, Any]:
    return dict(_cards(side, turn=_TURN, scale=scale, shift=_SHIFT))


def _frames(folder: Path, scale: float, *, noisy: bool) -> Any:
    """The image, and an empty one whose pixels are wanted."""
    import numpy as np

    import larun

    data = np.load(folder / "data.npy")
    more = {"unit": "electron", "gain": 1.0, "read_noise": READ_NOISE, "saturation": 1e6}
    variance = np.load(folder / "variance.npy") if noisy else None
    image = larun.Frame.from_arrays(data, variance=variance, header=_cards(len(data)), **more)
    wanted = int(len(data) / scale)
    return image, larun.Frame.from_arrays(
        np.zeros((wanted, wanted), np.float32), header=_target(len(data), scale), **more
    )


def _turned(folder: Path) -> Any:
    return _frames(folder, 1.0, noisy=False)


def _turned_with_errors(folder: Path) -> Any:
    return _frames(folder, 1.0, noisy=True)


def _coarse(folder: Path) -> Any:
    return _frames(folder, _COARSER, noisy=False)


def _larun(frames: Any) -> Any:
    image, reference = frames
    return image.align_to(reference, method="wcs", conserve="brightness")


def _for_reproject(folder: Path, scale: float) -> Any:
    import numpy as np
    from astropy.wcs import WCS

    data = np.load(folder / "data.npy")
    wanted = int(len(data) / scale)
    return (data, WCS(_cards(len(data)))), WCS(_target(len(data), scale)), (wanted, wanted)


def _reproject_turned(folder: Path) -> Any:
    return _for_reproject(folder, 1.0)


def _reproject_coarse(folder: Path) -> Any:
    return _for_reproject(folder, _COARSER)


def _interp(state: Any) -> Any:
    from reproject import reproject_interp

    image, wcs, shape = state
    return reproject_interp(image, wcs, shape_out=shape, order="bicubic")[0]


def _exact(state: Any) -> Any:
    from reproject import reproject_exact

    image, wcs, shape = state
    return reproject_exact(image, wcs, shape_out=shape, parallel=2)[0]


def _digest_larun(aligned: Any) -> Digest:
    return {"data": aligned.data}


def _digest_reproject(data: Any) -> Digest:
    return {"data": data}


def _fluxes(data: Any, x: Any, y: Any, radius: float) -> Any:
    """Sums in exact circles over a local sky; NaN where they leave the image."""
    import numpy as np
    from photutils.aperture import CircularAnnulus, CircularAperture, aperture_photometry

    places = np.column_stack([x, y])
    ring = CircularAnnulus(places, 1.4 * radius, 2.2 * radius).to_mask(method="center")
    sky = np.array([np.median(values) if (values := mask.get_values(data)).size else np.nan for mask in ring])
    circle = CircularAperture(places, radius)
    return np.asarray(aperture_photometry(data, circle)["aperture_sum"]) - sky * circle.area


def _errors(folder: Path, results: tuple[Any, Any], scale: float) -> list[tuple[float, float]]:
    """Mean and scatter of the relative change of the fluxes of lone bright stars, for each result."""
    import numpy as np
    from astropy.wcs import WCS
    from scipy.spatial import KDTree

    data = np.load(folder / "data.npy")
    with np.load(folder / "truth.npz") as file:
        x, y, flux = (file[name] for name in ("x", "y", "flux"))
    there = WCS(_target(len(data), scale)).all_world2pix(*WCS(_cards(len(data))).all_pix2world(x, y, 0), 0)
    wanted, margin = len(results[0]), 3 * _RADIUS
    use = flux > _BRIGHT
    stars = np.column_stack([x, y])
    use &= KDTree(stars).query(stars, 2)[0][:, 1] > _APART
    for (u, v), size in (((x, y), len(data)), (there, wanted)):
        use &= (u > margin) & (v > margin) & (u < size - margin) & (v < size - margin)
    require(use.sum() >= 3, f"only {use.sum()} bright stars are alone")
    before = _fluxes(data, x[use], y[use], _RADIUS)
    found = []
    for result in results:
        after = _fluxes(result.astype(np.float64), there[0][use], there[1][use], _RADIUS / scale) * scale**2
        change = after / before - 1
        found.append((float(np.mean(change)), float(np.std(change))))
    return found


def _check_interpolated(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    one, two = ours["data"], theirs["data"]
    both = np.isfinite(one) & np.isfinite(two)
    require(both.mean() > 0.95 * np.isfinite(two).mean(), "the footprints differ")
    (mean, scatter), (peer_mean, peer_scatter) = _errors(folder, (one, np.nan_to_num(two)), 1.0)
    require(scatter <= 1.05 * peer_scatter, f"fluxes change by {scatter:.2g}, the peer's by {peer_scatter:.2g}")
    require(abs(mean) <= max(abs(peer_mean), 3e-4), f"fluxes are off by {mean:.2g}, the peer's by {peer_mean:.2g}")
    noise = (float(np.median(np.abs(np.diff(item[both]))) / 0.954) for item in (one, two))
    return (
        f"aperture fluxes of bright stars change by {1e3 * mean:+.3f} ± {1e3 * scatter:.3f} / "
        f"{1e3 * peer_mean:+.3f} ± {1e3 * peer_scatter:.3f} per mille, larun / peer; the scatter of neighbours "
        f"{' / '.join(f'{value:.2f}' for value in noise)} electrons"
    )


def _check_areas(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    one, two = ours["data"].astype(np.float64), theirs["data"]
    both = np.isfinite(one) & np.isfinite(two)
    require(both.mean() > 0.99 * np.isfinite(two).mean(), "the footprints differ")
    inner = both.copy()
    for roll in (1, -1):  # the outermost pixels are partly empty
        for axis in (0, 1):
            inner &= np.roll(both, roll, axis)
    off = np.abs(one - two)[inner] / np.maximum(np.abs(two[inner]), 100.0)
    require(off.max() < 5e-3, f"pixels differ by up to {off.max():.2g} of their value")
    (mean, scatter), (peer_mean, peer_scatter) = _errors(folder, (one, np.nan_to_num(two)), _COARSER)
    require(abs(mean - peer_mean) < 1e-4, f"fluxes are off by {mean:.2g}, the peer's by {peer_mean:.2g}")
    return (
        f"pixels agree to {off.max():.1e} of their value (median {np.median(off):.1e}); aperture fluxes of bright "
        f"stars change by {1e3 * mean:+.3f} ± {1e3 * scatter:.3f} / {1e3 * peer_mean:+.3f} ± "
        f"{1e3 * peer_scatter:.3f} per mille, larun / peer"
    )


_INTERP = Side("reproject_interp (bicubic)", _reproject_turned, _interp, _digest_reproject)
_EXACT = Side("reproject_exact", _reproject_coarse, _exact, _digest_reproject)
_FULL, _QUICK = Size(2048, stars=1000), Size(512, stars=60)


def _case(name: str, setup: Any, peer: Side, check: Any, bar: float | None, *, slow: bool = False) -> Case:
    return Case(
        topic="resample",
        name=name,
        make=pair,
        larun=Side("larun", setup, _larun, _digest_larun),
        peer=peer,
        check=check,
        full=_FULL,
        quick=_QUICK,
        bar=bar,
        slow=slow,
    )


CASES = (
    _case("turned", _turned, _INTERP, _check_interpolated, 40),
    _case("turned, with variance", _turned_with_errors, _INTERP, _check_interpolated, None),
    _case("areas", _coarse, _EXACT, _check_areas, 20, slow=True),
)
