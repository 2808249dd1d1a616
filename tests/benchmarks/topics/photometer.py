"""Five exact apertures and a local sky for every star, against photutils and sep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import FWHM, calibrated, scene

__all__ = ["CASES", "sources"]

_RADII = (2.0, 3.0, 4.5, 6.0, 9.0)  # pixels
_ANNULUS = (15.0, 24.0)
_BRIGHT = 1e4  # electrons


def sources(folder: Path, size: Size) -> None:
    """A scene, and its stars as larun finds them: everybody measures at the same places."""
    import numpy as np

    scene(folder, size)
    found = calibrated(folder).detect(3.0, fwhm=FWHM)  # as many as there are stars
    found.write(folder / "sources.fits")
    np.save(folder / "places.npy", np.column_stack([found["x"].value, found["y"].value]))


def _catalog(folder: Path) -> Any:
    import larun

    return larun.SourceCatalog.read(folder / "sources.fits", verify=False).attach(calibrated(folder))


def _load(folder: Path) -> Any:
    import numpy as np

    sigma = np.sqrt(np.load(folder / "variance.npy"))
    return np.load(folder / "data.npy"), sigma, np.load(folder / "places.npy")


def _larun(catalog: Any) -> Any:
    return catalog.photometer(_RADII, unit="pixel", annulus=_ANNULUS)


def _photutils(planes: Any) -> Any:
    from astropy.stats import SigmaClip
    from photutils.aperture import ApertureStats, CircularAnnulus, CircularAperture, aperture_photometry

    data, sigma, places = planes
    sky = ApertureStats(data, CircularAnnulus(places, *_ANNULUS), sigma_clip=SigmaClip(sigma=3.0)).median
    table = aperture_photometry(data, [CircularAperture(places, radius) for radius in _RADII], error=sigma)
    return table, sky


def _sep(planes: Any) -> Any:
    import sep

    data, sigma, places = planes
    x, y = places.T.copy()
    return planes, [sep.sum_circle(data, x, y, r, err=sigma, bkgann=_ANNULUS, subpix=0) for r in _RADII]


def _digest_larun(catalog: Any) -> Digest:
    """Sums of the pixels and, apart from them, the sky: fluxes are ``sum - sky × area``."""
    import numpy as np

    sky = catalog["sky"].value
    net, error, area = (
        np.array([np.asarray(catalog[f"{name}_{k}"]) for k in range(1, len(_RADII) + 1)])
        for name in ("aperture_flux", "aperture_flux_error", "area_fraction")
    )
    whole = np.pi * np.square(_RADII)[:, None] * area
    inside = (area > 0.999999).all(axis=0)
    return {"sum": net + sky * whole, "net": net, "error": error, "sky": sky, "inside": inside}


def _digest_photutils(result: Any) -> Digest:
    import numpy as np

    table, sky = result
    total = np.array([np.asarray(table[f"aperture_sum_{k}"]) for k in range(len(_RADII))])
    return {"sum": total, "sky": sky, "net": total - sky * np.pi * np.square(_RADII)[:, None]}


def _digest_sep(result: Any) -> Digest:
    import numpy as np
    import sep

    (data, _, places), measured = result
    x, y = places.T.copy()
    total = np.array([sep.sum_circle(data, x, y, radius, subpix=0)[0] for radius in _RADII])
    net = np.array([one[0] for one in measured])
    return {"sum": total, "net": net, "sky": (total - net)[0] / (np.pi * _RADII[0] ** 2)}


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    inside = ours["inside"]
    require(inside.mean() > 0.9, f"only {inside.mean():.1%} of the stars have whole apertures")
    require(ours["sum"].shape == theirs["sum"].shape, f"{ours['sum'].shape} and {theirs['sum'].shape}")
    worst = float(np.abs(ours["sum"] / theirs["sum"] - 1)[:, inside].max())
    require(worst < 1e-5, f"sums in apertures differ by up to {worst:.2g}")
    gap = (ours["sky"] - theirs["sky"])[inside]
    middle, spread = float(np.median(gap)), float(1.4826 * np.median(np.abs(gap - np.median(gap))))
    require(abs(middle) < 5 and spread < 2, f"skies differ by {middle:.2f} e-, scatter {spread:.2f}")
    bright = inside & (ours["net"][2] > _BRIGHT)
    net = np.abs(ours["net"][2] / theirs["net"][2] - 1)[bright]
    return (
        f"sums in 5 apertures equal to {max(worst, 1e-16):.0e} for {int(inside.sum())} stars; local sky (larun: "
        f"clipped median, neighbours masked) differs by {middle:+.2f} e- in the median, scatter {spread:.2f} e-; "
        f"fluxes of {int(bright.sum())} bright stars agree to {float(np.median(net)):.1%} in the median"
    )


_LARUN = Side("larun", _catalog, _larun, _digest_larun)


def _case(peer: Side, bar: float) -> Case:
    return Case(
        topic="photometer",
        name="5 apertures, annulus",
        make=sources,
        larun=_LARUN,
        peer=peer,
        check=_check,
        full=Size(4096, stars=20000),
        quick=Size(1024, stars=1250),
        bar=bar,
        unit="star",
    )


CASES = (
    _case(Side("photutils", _load, _photutils, _digest_photutils), 10),
    _case(Side("sep", _load, _sep, _digest_sep), 3),
)
