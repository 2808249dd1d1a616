"""One image less another, sharper one of the same field, against hotpants and a plain proper subtraction.

All of them are told the noise. hotpants has the orders that larun takes by itself (``-ko 2 -bgo 2``). The plain one is
that of the tests, Fourier transforms of whole images after Zackay, Ofek & Gal-Yam (2016); it is given the PSFs and the
sky, which the others have to find.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require

__all__ = ["CASES"]

_SHARP, _WIDE, _BETA = 2.7, 3.6, 3.5  # FWHM of reference and science, pixels
_SKY, _READ_NOISE = 300.0, 6.0
_RADIUS = 10.0  # of the circles in which new stars are measured
_EVERY = 110  # pixels between new stars


def images(folder: Path, size: Size) -> None:
    """``science.npy`` and ``reference.npy`` with their variances and as FITS, and ``truth.npz``: what is new."""
    import numpy as np
    from astropy.io import fits

    from larun import simulate

    shape, margin = (size.side, size.side), 10
    rng = np.random.default_rng(61)
    x, y = rng.uniform(-margin, size.side + margin, (2, size.stars))
    flux = 300.0 * (1e5 / 300.0) ** (rng.uniform(0, 1, size.stars) ** 2.5)
    grid = np.arange(60, size.side - 60, _EVERY) + 0.3
    new_y, new_x = (part.ravel() for part in np.meshgrid(grid, grid))
    new = rng.uniform(3e4, 6e4, new_x.size)
    clear = np.hypot(x - _nearest(x, grid), y - _nearest(y, grid)) > 2 * _RADIUS
    x, y, flux = x[clear], y[clear], flux[clear]  # what is new is alone: of its light alone the bias is asked
    for name, fwhm, stars in (
        ("science", _WIDE, (np.append(x, new_x), np.append(y, new_y), np.append(flux, new))),
        ("reference", _SHARP, (x, y, flux)),
    ):
        light = simulate.render(shape, *stars, fwhm=fwhm, beta=_BETA) + _SKY
        data = simulate.noisy(light, read_noise=_READ_NOISE, rng=rng).astype(np.float32)
        variance = (light + _READ_NOISE**2).astype(np.float32)
        np.save(folder / f"{name}.npy", data)
        np.save(folder / f"{name}-variance.npy", variance)
        for end, plane in (("", data), ("-sigma", np.sqrt(variance))):
            fits.PrimaryHDU(plane).writeto(folder / f"{name}{end}.fits")
    np.savez(folder / "truth.npz", x=new_x, y=new_y, flux=new, light=float(light.max()))


def _nearest(values: Any, grid: Any) -> Any:
    import numpy as np

    return grid[np.abs(values[:, None] - grid[None]).argmin(axis=1)]


def _frames(folder: Path) -> Any:
    import numpy as np

    import larun

    more = {"unit": "electron", "gain": 1.0, "read_noise": _READ_NOISE, "saturation": 1e7}
    planes = [[np.load(folder / f"{name}{end}.npy") for end in ("", "-variance")] for name in ("science", "reference")]
    return [larun.Frame.from_arrays(data, variance=variance, **more) for data, variance in planes]


def _larun(frames: Any) -> Any:
    science, reference = frames
    return science.subtract(reference, align="none")


def _digest_larun(made: Any) -> Digest:
    return {"data": made.data, "sigma": made.uncertainty, "flags": made.flags}


def _plain(folder: Path) -> Any:
    import numpy as np

    return [[np.load(folder / f"{name}{end}.npy") for end in ("", "-variance")] for name in ("science", "reference")]


def _zogy(planes: Any) -> Any:
    import numpy as np

    from larun import simulate
    from tests.algorithms.reference_zogy import zogy

    middle, at = (61, 61), [30.0]
    psfs = [simulate.render(middle, at, at, [1.0], fwhm=fwhm, beta=_BETA) for fwhm in (_WIDE, _SHARP)]
    sigma = float(np.sqrt(_SKY + _READ_NOISE**2))
    data, variances = zip(*planes, strict=True)
    return zogy(
        tuple(plane - _SKY for plane in data),
        (psfs[0] / psfs[0].sum(), psfs[1] / psfs[1].sum()),
        sigmas=(sigma, sigma),
        scales=(1.0, 1.0),
        variances=variances,
    )


def _digest_zogy(made: Any) -> Digest:
    import numpy as np

    data = made.difference / made.zero_point
    return {"data": data, "sigma": np.full(data.shape, 1 / made.zero_point), "flags": np.zeros(data.shape, np.uint32)}


def _folder(folder: Path) -> Path:
    return folder


def _hotpants(folder: Path) -> Any:
    import subprocess
    import tempfile

    from astropy.io import fits

    with tempfile.TemporaryDirectory() as place:
        out, noise = (str(Path(place) / name) for name in ("difference.fits", "noise.fits"))
        command = ["hotpants", "-inim", str(folder / "science.fits"), "-tmplim", str(folder / "reference.fits")]
        command += ["-ini", str(folder / "science-sigma.fits"), "-tni", str(folder / "reference-sigma.fits")]
        command += ["-outim", out, "-oni", noise, "-ko", "2", "-bgo", "2", "-c", "t", "-n", "i", "-v", "0"]
        command += ["-tl", "0", "-il", "0", "-tu", "1e6", "-iu", "1e6"]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        return fits.getdata(out).astype("float32"), fits.getdata(noise).astype("float32")


def _digest_hotpants(made: Any) -> Digest:
    import numpy as np

    data, sigma = made
    lost = ~(np.isfinite(data) & (sigma > 0) & (np.abs(data) > 1e-20))
    return {"data": np.where(lost, 0, data), "sigma": np.where(lost, 1, sigma), "flags": lost.astype(np.uint32)}


def _measured(folder: Path, made: Digest) -> tuple[float, float, float]:
    """Mean chi^2 of pixels away from what is new, and the mean relative error of the new stars, with its own error."""
    import numpy as np

    from larun import simulate

    with np.load(folder / "truth.npz") as kept:
        truth = dict(kept)
    data, sigma, good = made["data"], made["sigma"], made["flags"] == 0
    inside = good.copy()
    rows, columns = np.mgrid[: data.shape[0], : data.shape[1]]
    away = np.full(data.shape, True)
    reach = int(_RADIUS) + 1
    share = _share(simulate.render((81, 81), [40.0], [40.0], [1.0], fwhm=_WIDE, beta=_BETA))
    found, used = [], []
    for x, y, flux in zip(truth["x"], truth["y"], truth["flux"], strict=True):
        column, row = round(x), round(y)
        wide = slice(row - 3 * reach, row + 3 * reach + 1), slice(column - 3 * reach, column + 3 * reach + 1)
        away[wide] = False
        circle = np.hypot(rows[wide] - y, columns[wide] - x) <= _RADIUS
        if good[wide][circle].all():
            found.append(float(data[wide][circle].sum(dtype=np.float64)) / share / flux - 1)
            used.append(flux)
    inside &= away
    square = (data[inside].astype(np.float64) / sigma[inside]) ** 2
    return float(square.mean()), float(np.mean(found)), float(np.std(found) / np.sqrt(len(found)))


def _share(profile: Any) -> float:
    """Of a star's light in a circle around its middle."""
    import numpy as np

    rows, columns = np.mgrid[: len(profile), : len(profile)] - len(profile) // 2
    return float(profile[np.hypot(rows, columns) <= _RADIUS].sum() / profile.sum())


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    (chi2, bias, error), (their_chi2, their_bias, their_error) = (_measured(folder, one) for one in (ours, theirs))
    text = (
        f"χ² of the difference {chi2:.3f} / {their_chi2:.3f} a pixel; new stars {bias:+.2%} ± {error:.2%} / "
        f"{their_bias:+.2%} ± {their_error:.2%} off the truth (larun / peer)"
    )
    require(abs(chi2 - 1) < 0.03, text)
    require(abs(bias) < 0.005 + 3 * error * (len(ours["data"]) < 1000), text)
    require(abs(their_bias) < 0.02 + 3 * their_error, text)
    return text


_SIDES = (
    Side("plain ZOGY", _plain, _zogy, _digest_zogy),
    Side("hotpants", _folder, _hotpants, _digest_hotpants, program=("hotpants",), children=True),
)

CASES = tuple(
    Case(
        topic="subtract",
        name=name,
        make=images,
        larun=Side("larun", _frames, _larun, _digest_larun),
        peer=peer,
        check=_check,
        full=Size(side, stars=side**2 // 1000),
        quick=Size(640 if side == 2048 else 1280, stars=400 if side == 2048 else 1600),
        bar=bar if peer.program else None,
        slow=side > 2048,
        grows=side > 2048,
    )
    for name, side, bar in (("one pair", 2048, 5.0), ("a large pair", 4096, 4.0))
    for peer in _SIDES
)
