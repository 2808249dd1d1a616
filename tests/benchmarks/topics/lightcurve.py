"""The light curve of a star through a night, beside photutils with a simple ensemble.

The peer finds stars by DAOFIND, follows them by astroalign, sums circles of one radius above a clipped median, and
divides the target by the sum of the twenty brightest others: what a good script does. On the simulated night the truth
is known; on that of TrES-1, where the data are, both light curves are fitted with the same transit.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require

__all__ = ["CASES"]

DATA = Path(os.environ.get("LARUN_DATA", Path(__file__).parents[4] / "shared" / "data"))
_RADIUS = 3.5
_COMPARISONS = 20
_ORBIT = {"period": 3.0300722, "semi_major_axis": 10.45, "impact": 0.18, "radius_ratio": 0.137}
_EPHEMERIS = (2455489.66026, 3.0300689)  # BJD_TDB, days (arXiv 2207.01559)
_PLACE = (286.04104, 36.63264)


def simulated(folder: Path, size: Size) -> None:
    """A night with a transit of one per cent, as products of larun and as plain FITS."""
    import numpy as np

    from tests.model.curves import nights

    made = nights.night(11, frames=size.frames, targets=1)
    for k, frame in enumerate(made.frames):
        _write(folder, k, frame)
    np.savez(folder / "truth.npz", target=made.targets[0], relative=made.relative[:, 0], reference=0)


def tres1(folder: Path, size: Size) -> None:
    """The night of TrES-1, darks taken off, evenly thinned."""
    import numpy as np

    import larun

    darks = larun.MasterDark.combine(sorted((DATA / "tres1").glob("*d.fit.fz")))
    paths = sorted((DATA / "tres1").glob("tres1-???.fit.fz"))
    chosen = [paths[k] for k in np.unique(np.linspace(0, len(paths) - 1, size.frames).round().astype(int))]
    for k, path in enumerate(chosen):
        _write(folder, k, larun.Frame.read(path).calibrate(darks, without=("bias", "flat")))
    names = [path.name for path in chosen]
    reference = names.index("tres1-125.fit.fz") if "tres1-125.fit.fz" in names else len(names) // 2
    image = larun.Frame.read(folder / f"frame{reference:03d}.fits")
    there = np.array([[634.2, 249.7]])
    if names[reference] != "tres1-125.fit.fz":
        middle = larun.Frame.read(DATA / "tres1" / "tres1-125.fit.fz").calibrate(darks, without=("bias", "flat"))
        step = middle.align_to(image).provenance.step
        assert step is not None
        # from the pixels of the reference to those of the middle frame: there and back
        there = (there - step.fitted["offset"]) @ np.linalg.inv(np.array(step.fitted["matrix"])).T
    np.savez(folder / "truth.npz", target=there[0], reference=reference)


def _write(folder: Path, number: int, frame: Any) -> None:
    from astropy.io import fits

    frame.write(folder / f"frame{number:03d}.fits")
    header = fits.Header({"JD": frame.time.jd_utc})
    fits.PrimaryHDU(frame.data, header).writeto(folder / f"plain{number:03d}.fits")


def _setup_larun(folder: Path) -> Any:
    import numpy as np

    with np.load(folder / "truth.npz") as kept:
        target, reference = kept["target"], int(kept["reference"])
    paths = sorted(folder.glob("frame*.fits"))
    return paths, target[None, :], paths[reference]


def _larun(state: Any) -> Any:
    import larun

    paths, target, reference = state
    # both sides measure one aperture, and neither looks for cosmic rays
    options = larun.LightCurveOptions(clean="none", radius=_RADIUS)
    return larun.LightCurve.extract(paths, target, reference=reference, coordinates=_PLACE, options=options)


def _digest_larun(curve: Any) -> Digest:
    import numpy as np

    own, good = curve.curve(), curve.good()
    return {
        "jd": own["jd_utc"].value[good],
        "time": curve.time()[good],
        "flux": np.asarray(own["flux"])[good],
        "error": np.asarray(own["flux_error"])[good],
        "frames": np.flatnonzero(good),
    }


def _setup_photutils(folder: Path) -> Any:
    import numpy as np

    with np.load(folder / "truth.npz") as kept:
        target, reference = kept["target"], int(kept["reference"])
    return sorted(folder.glob("plain*.fits")), target, reference


def _stars(data: Any) -> Any:
    import numpy as np
    from astropy.stats import sigma_clipped_stats
    from photutils.detection import DAOStarFinder

    _, sky, noise = sigma_clipped_stats(data)
    found = DAOStarFinder(threshold=8 * noise, fwhm=2.7)(data - sky)
    names = ("x_centroid", "y_centroid") if "x_centroid" in found.colnames else ("xcentroid", "ycentroid")
    order = np.argsort(-np.asarray(found["flux"]))[:80]
    return np.column_stack([np.asarray(found[name])[order] for name in names]), np.asarray(found["peak"])[order]


def _followed(places: Any, first: Any, stars: Any) -> Any:
    """Where places of the reference lie on a frame; NaN where no transform puts half of the stars where they are."""
    import astroalign
    import numpy as np

    for count in (50, 30, 80):
        try:
            transform, _ = astroalign.find_transform(first[:count], stars[:count])
        except astroalign.MaxIterError:
            continue
        there = astroalign.matrix_transform(first, transform.params)
        away = np.min(np.hypot(*(there[:, None] - stars[None]).transpose(2, 0, 1)), axis=1)
        if np.median(away) < 1.0:
            return astroalign.matrix_transform(places, transform.params)
    return np.full(places.shape, np.nan)


def _photutils(state: Any) -> Any:
    import numpy as np
    from astropy.io import fits
    from astropy.stats import SigmaClip
    from photutils.aperture import ApertureStats, CircularAnnulus, CircularAperture, aperture_photometry

    paths, target, reference = state
    first, peaks = _stars(fits.getdata(paths[reference]).astype(float))
    ny, nx = fits.getdata(paths[reference]).shape
    away = np.hypot(*(first - target).T)
    inside = (first > 20).all(axis=1) & (first[:, 0] < nx - 20) & (first[:, 1] < ny - 20)
    others = first[inside & (away > 12) & (peaks < 40000)][: 2 * _COMPARISONS]
    places = np.vstack([first[np.argmin(away)], others])
    rows, times = [], []
    for path in paths:
        with fits.open(path) as hdus:
            data, when = hdus[0].data.astype(float), hdus[0].header["JD"]
        here = _followed(places, first, _stars(data)[0])
        times.append(when)
        if np.isnan(here).any():
            rows.append(np.full(len(places), np.nan))
            continue
        sky = ApertureStats(data, CircularAnnulus(here, 14, 22), sigma_clip=SigmaClip(3.0)).median
        circle = CircularAperture(here, _RADIUS)
        total = np.asarray(aperture_photometry(data, circle)["aperture_sum"]) - sky * circle.area
        cut = ((here < _RADIUS) | (here > np.array([nx, ny]) - 1 - _RADIUS)).any(axis=1)
        rows.append(np.where(cut, np.nan, total))
    return np.array(times), np.array(rows)


def _digest_photutils(found: Any) -> Digest:
    import numpy as np

    times, light = found
    followed = np.isfinite(light).any(axis=1)
    whole = np.flatnonzero(np.isfinite(light[followed, 1:]).all(axis=0))[:_COMPARISONS] + 1
    flux = light[:, 0] / light[:, whole].sum(axis=1)
    return {"jd": times, "flux": flux / np.nanmedian(flux), "comparisons": np.array(len(whole))}


def _check_simulated(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    with np.load(folder / "truth.npz") as kept:
        truth = kept["relative"]
    left = [digest["flux"] / truth[frames] for digest, frames in ((ours, ours["frames"]), (theirs, slice(None)))]
    scatter = [float(np.nanstd(values / np.nanmean(values))) for values in left]
    lost = int(np.sum(~np.isfinite(theirs["flux"])))
    pull = float(np.std((left[0] / np.mean(left[0]) - 1) / ours["error"]))
    require(len(ours["flux"]) >= len(truth) - 2, f"only {len(ours['flux'])} of {len(truth)} points")
    require(pull < 1.5, f"pull {pull:.2f}")
    require(scatter[0] < 1.1 * scatter[1], f"scatter {scatter[0]:.5f}, the peer's {scatter[1]:.5f}")
    return (
        f"{len(truth)} frames, about the truth {1e3 * scatter[0]:.2f} ‰ and {1e3 * scatter[1]:.2f} ‰ "
        f"(larun / peer), in units of larun's errors {pull:.2f}; the peer could not follow the stars in {lost} frames; "
        "a variable comparison star is rejected by larun alone"
    )


def _check_tres1(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    from larun.algorithms.rednoise import point_to_point
    from larun.model.curves.transit import TransitOptions
    from tests.model.curves.nights import curve_of

    scatter = [point_to_point(digest["flux"]) for digest in (ours, theirs)]
    points = [int(np.isfinite(digest["flux"]).sum()) for digest in (ours, theirs)]
    text = f"{points[0]} and {points[1]} points, from point to point {1e3 * scatter[0]:.2f} ‰ and "
    text += f"{1e3 * scatter[1]:.2f} ‰ (larun / peer)"
    if len(theirs["jd"]) < 20:  # few frames, far apart: what is between them is the transit
        return text
    require(scatter[0] < 1.15 * scatter[1], f"scatter {scatter[0]:.5f}, the peer's {scatter[1]:.5f}")
    late = float(np.median(ours["time"] - ours["jd"]))  # of the barycentre, which changes little in a night
    fits = []
    for digest in (ours, theirs):
        good = np.isfinite(digest["flux"])
        curve = curve_of(digest["flux"][good], scatter[0], digest["jd"][good] + late)
        fits.append(curve.fit_transit(TransitOptions(**_ORBIT, limb_darkening=(0.44, 0.25))))
    for fit in fits:
        minutes = fit.against(*_EPHEMERIS)[1]
        text += f"; {minutes:+.1f} ± {1440 * fit.t_mid_error:.1f} min from the ephemeris, depth "
        text += f"{100 * fit.depth:.2f} ± {100 * fit.depth_error:.2f} %, beta {fit.beta:.2f}"
    require(abs(fits[0].against(*_EPHEMERIS)[1]) < 5, text)
    return text


_OURS = Side("larun", _setup_larun, _larun, _digest_larun)
_PEER = Side("photutils", _setup_photutils, _photutils, _digest_photutils)
CASES = (
    Case(
        topic="lightcurve",
        name="simulated",
        make=simulated,
        larun=_OURS,
        peer=_PEER,
        check=_check_simulated,
        full=Size(230, frames=60),
        quick=Size(230, frames=12),
        bar=None,
        grows=False,
    ),
)
if (DATA / "tres1").is_dir():
    CASES += (
        Case(
            topic="lightcurve",
            name="tres1",
            make=tres1,
            larun=_OURS,
            peer=_PEER,
            check=_check_tres1,
            full=Size(896, frames=42),
            quick=Size(896, frames=6),
            bar=None,
            grows=False,
        ),
    )
