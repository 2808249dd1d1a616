"""Ten dithered frames from FITS files to one mean without what only one of them saw, against two peers.

astroalign and ccdproc's Combiner find the same stars, warp and clip in memory; SWarp trusts the WCS that all frames
have, and so does larun there. Stars must be as bright as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import BETA, FWHM, READ_NOISE, SKY

__all__ = ["CASES"]

_SCALE = 0.4 / 3600
_RADIUS = 8.0
_BRIGHT = 3e4


def frames(folder: Path, size: Size) -> None:
    """Products of larun, and the same pixels as plain FITS; 0.01 % of the pixels are hit in each."""
    import numpy as np
    from astropy.io import fits

    import larun
    from larun import simulate

    shape, margin = (size.side, size.side), 40
    rng = np.random.default_rng(31)
    x, y = rng.uniform(-margin, size.side + margin, (2, size.stars))
    flux = 10 ** rng.uniform(3.3, 5.3, size.stars)
    for k in range(size.frames):
        own = np.random.default_rng([31, k])
        dx, dy = (0.0, 0.0) if k == 0 else own.uniform(-15, 15, 2)
        light = simulate.render(shape, x + dx, y + dy, flux, fwhm=FWHM, beta=BETA)
        data = simulate.noisy(light + SKY, read_noise=READ_NOISE, rng=own)
        data[own.uniform(size=shape) < 1e-4] += 3000
        cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 20.0}
        cards |= {"CRPIX1": size.side / 2 + dx, "CRPIX2": size.side / 2 + dy, "CD1_1": -_SCALE, "CD2_2": _SCALE}
        cards |= {"CD1_2": 0.0, "CD2_1": 0.0}
        fits.PrimaryHDU(data.astype(np.float32), fits.Header(cards)).writeto(folder / f"plain{k}.fits")
        more = {"unit": "electron", "gain": 1.0, "read_noise": READ_NOISE, "saturation": 1e6, "header": cards}
        frame = larun.Frame.from_arrays(data, variance=np.maximum(data, 0) + READ_NOISE**2, **more)
        frame.write(folder / f"frame{k}.fits")
    np.savez(folder / "truth.npz", x=x, y=y, flux=flux)


def _products(folder: Path) -> Any:
    return sorted(folder.glob("frame*.fits"))


def _plain(folder: Path) -> Any:
    return sorted(folder.glob("plain*.fits"))


def _larun(paths: Any) -> Any:
    import larun

    options = larun.StackOptions(footprint="reference")
    return larun.Stack.combine(paths, reference=paths[0], options=options)


def _larun_by_wcs(paths: Any) -> Any:
    import larun

    options = larun.StackOptions(footprint="reference", scale="none")
    return larun.Stack.combine(paths, reference=paths[0], align="wcs", options=options)


def _combiner(paths: Any) -> Any:
    import astroalign
    import numpy as np
    from astropy.io import fits
    from astropy.nddata import CCDData
    from astropy.stats import mad_std
    from ccdproc import Combiner

    planes = [fits.getdata(path).astype(np.float32) for path in paths]
    aligned = [CCDData(planes[0], unit="electron")]
    for plane in planes[1:]:
        data, outside = astroalign.register(plane, planes[0])
        aligned.append(CCDData(data, unit="electron", mask=outside))
    combiner = Combiner(aligned)
    combiner.sigma_clipping(low_thresh=5, high_thresh=5, func=np.ma.median, dev_func=mad_std)
    return combiner.average_combine()


def _swarp(paths: Any) -> Any:
    import shutil
    import subprocess
    import tempfile

    from astropy.io import fits

    program = shutil.which("SWarp") or shutil.which("swarp")
    size = fits.getheader(paths[0])["NAXIS1"]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(program), *map(str, paths), "-COMBINE_TYPE", "CLIPPED", "-SUBTRACT_BACK", "N", "-NTHREADS", "2"]
        command += ["-CENTER_TYPE", "MANUAL", "-CENTER", "150.0,20.0", "-IMAGE_SIZE", f"{size},{size}"]
        command += ["-PIXELSCALE_TYPE", "MANUAL", "-PIXEL_SCALE", f"{_SCALE * 3600}", "-WRITE_XML", "N"]
        command += ["-RESAMPLING_TYPE", "LANCZOS3", "-FSCALASTRO_TYPE", "NONE", "-VERBOSE_TYPE", "QUIET"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)
        return fits.getdata(Path(folder) / "coadd.fits"), fits.getheader(Path(folder) / "coadd.fits")


def _digest_stack(made: Any) -> Digest:
    import numpy as np

    return {"data": made.data, "origin": np.zeros(2)}


def _digest_combined(made: Any) -> Digest:
    import numpy as np

    return {"data": np.asarray(np.ma.filled(made.data, np.nan), np.float32), "origin": np.zeros(2)}


def _digest_swarp(made: Any) -> Digest:
    import numpy as np

    data, header = made
    size = data.shape[1]
    # where the first frame's first pixel lies on the result
    return {"data": data.astype(np.float32), "origin": np.array([header["CRPIX1"], header["CRPIX2"]]) - size / 2}


def _light(folder: Path, side: Digest) -> Any:
    """Fluxes of bright stars in units of the true ones, and the scatter of the sky."""
    import numpy as np
    from scipy.spatial import KDTree

    from larun.algorithms.aperture import aperture_sums

    with np.load(folder / "truth.npz") as file:
        x, y, flux = (file[name] for name in ("x", "y", "flux"))
    data = side["data"]
    size = len(data)
    use = (flux > _BRIGHT) & (x > 40) & (y > 40) & (x < size - 40) & (y < size - 40)
    use &= KDTree(np.column_stack([x, y])).query(np.column_stack([x, y]), 2)[0][:, 1] > 2.2 * _RADIUS
    require(use.sum() >= 5, f"{use.sum()} stars are alone")
    nothing = np.zeros(data.shape, np.uint32)
    level = float(np.nanmedian(data))
    at = x[use] + side["origin"][0], y[use] + side["origin"][1]
    sums = aperture_sums(np.nan_to_num(data - level).astype(np.float32), None, nothing, *at, [_RADIUS]).sum[:, 0]
    middle = data[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4]
    scatter = 1.4826 * float(np.nanmedian(np.abs(middle - np.nanmedian(middle))))
    return sums / flux[use], scatter


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    found = [_light(folder, side) for side in (ours, theirs)]
    means = [float(np.mean(light)) for light, _ in found]
    spread = [float(np.std(light)) for light, _ in found]
    require(abs(means[0] - 1) < 0.03, f"stars have {means[0]:.4f} of their light")
    require(abs(means[1] - 1) < 0.1, f"the peer's stars have {means[1]:.4f} of their light")
    require(spread[0] < 1.2 * spread[1] + 0.002, f"light scatters by {spread[0]:.4f}, the peer's by {spread[1]:.4f}")
    return (
        f"light of {len(found[0][0])} bright stars {means[0]:.4f} ± {spread[0]:.4f} / "
        f"{means[1]:.4f} ± {spread[1]:.4f}, "
        f"sky scatter {found[0][1]:.2f} / {found[1][1]:.2f} e-, larun / peer"
    )


_FULL, _QUICK = Size(2048, frames=10, stars=1000), Size(512, frames=5, stars=150)

CASES = (
    Case(
        topic="stack",
        name="by stars",
        make=frames,
        larun=Side("larun", _products, _larun, _digest_stack),
        peer=Side("astroalign + Combiner", _plain, _combiner, _digest_combined),
        check=_check,
        full=_FULL,
        quick=_QUICK,
        bar=10,
        slow=True,
        grows=False,
    ),
    Case(
        topic="stack",
        name="by WCS",
        make=frames,
        larun=Side("larun", _products, _larun_by_wcs, _digest_stack),
        peer=Side("SWarp", _plain, _swarp, _digest_swarp, program=("SWarp", "swarp"), children=True),
        check=_check,
        full=_FULL,
        quick=_QUICK,
        bar=5,
        grows=False,
    ),
)
