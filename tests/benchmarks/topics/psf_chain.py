"""From the pixels of isolated stars to their fluxes by a PSF that is made from them, against SExtractor and PSFEx.

Both sides do all of it, from a file to a table: sky, detection, the PSF from the brighter stars, and fits of it to all
sources. The peer runs three programs: SExtractor for the stamps of stars, PSFEx, and SExtractor again, which detects
anew and fits the model. Both normalise the PSF to the same circle.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import BETA, FWHM, READ_NOISE, SKY

__all__ = ["CHAIN"]

_STEP = 20  # pixels between stars
_FAINTEST, _BRIGHTEST = 2e3, 2e5  # electrons
_RADIUS = 12  # pixels, of the circle whose light is 1
_THRESHOLD = 5.0
_SEXTRACTOR = ("source-extractor", "sex", "sextractor")
_STAMPS = ("VIGNET(25,25)", "X_IMAGE", "Y_IMAGE", "FLUX_RADIUS", "FLUX_APER(1)", "FLUXERR_APER(1)", "ELONGATION")
_STAMPS += ("FLAGS", "SNR_WIN")
_FLUXES = ("X_IMAGE", "Y_IMAGE", "XPSF_IMAGE", "YPSF_IMAGE", "FLUX_PSF", "FLUXERR_PSF", "CHI2_PSF")
_COMMON = {
    "CATALOG_TYPE": "FITS_LDAC",
    "DETECT_MINAREA": 3,
    "DETECT_THRESH": 1.5,
    "ANALYSIS_THRESH": 1.5,
    "FILTER": "Y",
    "GAIN": 1.0,
    "GAIN_KEY": "NONE",
    "SATUR_KEY": "NONE",
    "SATUR_LEVEL": 1e7,
    "PHOT_APERTURES": 2 * _RADIUS,
    "SEEING_FWHM": FWHM,
    "PIXEL_SCALE": 1.0,
    "BACK_SIZE": 64,
    "VERBOSE_TYPE": "QUIET",
    "WRITE_XML": "N",
}
_PSFEX = {
    "BASIS_TYPE": "PIXEL_AUTO",
    "PSF_SIZE": "25,25",
    "PSFVAR_DEGREES": 0,
    "SAMPLE_FWHMRANGE": "1.0,10.0",
    "SAMPLE_MINSN": 50,
    "CHECKPLOT_DEV": "NULL",
    "CHECKIMAGE_TYPE": "NONE",
    "WRITE_XML": "N",
    "NTHREADS": 2,
    "VERBOSE_TYPE": "QUIET",
}


def _lacking() -> tuple[str, ...]:
    """The programs that must be there: of two kinds the one that is not."""
    return ("psfex",) if any(map(shutil.which, _SEXTRACTOR)) else _SEXTRACTOR


def isolated_on_disk(folder: Path, size: Size) -> None:
    """A product of larun, the same pixels as plain FITS, and the truth."""
    import numpy as np
    from astropy.io import fits

    import larun
    from larun import simulate

    rng, shape = np.random.default_rng(41), (size.side, size.side)
    middle = np.arange(_STEP / 2, size.side - _STEP / 2 + 1, _STEP)
    y, x = (part.ravel()[: size.stars] for part in np.meshgrid(middle, middle, indexing="ij"))
    x, y = (part + rng.uniform(-0.5, 0.5, part.size) for part in (x, y))
    flux = 10 ** rng.uniform(np.log10(_FAINTEST), np.log10(_BRIGHTEST), x.size)
    light = simulate.render(shape, x, y, flux, fwhm=FWHM, beta=BETA)
    data = simulate.noisy(light + SKY, read_noise=READ_NOISE, rng=rng).astype(np.float32)
    fits.PrimaryHDU(data).writeto(folder / "image.fits")
    more = {"unit": "electron", "gain": 1.0, "read_noise": READ_NOISE, "saturation": 1e7}
    frame = larun.Frame.from_arrays(data, variance=np.maximum(data, 0) + READ_NOISE**2, **more)
    frame.write(folder / "frame.fits")
    np.savez(folder / "truth.npz", x=x, y=y, flux=flux)


def _product(folder: Path) -> Path:
    return folder / "frame.fits"


def _larun(path: Path) -> Any:
    import larun

    sources = larun.Frame.read(path, verify=False).detect(_THRESHOLD)
    return sources.photometer(method=sources.image.psf(sources, order=0, aperture=_RADIUS))


def _plain(folder: Path) -> Path:
    (folder / "stamps.param").write_text("\n".join(_STAMPS) + "\n", encoding="ascii")
    (folder / "fluxes.param").write_text("\n".join(_FLUXES) + "\n", encoding="ascii")
    rows = "\n".join(" ".join(f"{value:.6f}" for value in row) for row in _kernel())
    (folder / "filter.conv").write_text(f"CONV NORM\n# Gaussian, FWHM {FWHM} pixels\n{rows}\n", encoding="ascii")
    for name in ("empty.sex", "empty.psfex"):
        (folder / name).write_text("", encoding="ascii")
    return folder


def _kernel() -> Any:
    import numpy as np

    at = np.arange(-3, 4)
    return np.exp(-4 * np.log(2) * (at[None, :] ** 2 + at[:, None] ** 2) / FWHM**2)


def _chain(folder: Path) -> Path:
    program = next(name for name in _SEXTRACTOR if shutil.which(name))
    common = [program, "image.fits", "-c", "empty.sex", *_words(_COMMON), "-FILTER_NAME", "filter.conv"]
    commands = (
        [*common, "-PARAMETERS_NAME", "stamps.param", "-CATALOG_NAME", "stamps.cat"],
        ["psfex", "stamps.cat", "-c", "empty.psfex", *_words(_PSFEX)],
        [*common, "-PARAMETERS_NAME", "fluxes.param", "-CATALOG_NAME", "fluxes.cat", "-PSF_NAME", "stamps.psf"],
    )
    for command in commands:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)
    return folder / "fluxes.cat"


def _words(options: dict[str, Any]) -> list[str]:
    return [text for name, value in options.items() for text in (f"-{name}", str(value))]


def _digest_larun(found: Any) -> Digest:
    import numpy as np

    names = {"x": "x_psf", "y": "y_psf", "flux": "flux_psf", "error": "flux_psf_error"}
    return {name: np.asarray(found[column].value, float) for name, column in names.items()}


def _digest_chain(path: Path) -> Digest:
    import numpy as np
    from astropy.io import fits

    table = fits.getdata(path, "LDAC_OBJECTS")
    places = {name: np.asarray(table[f"{name.upper()}PSF_IMAGE"], float) - 1 for name in "xy"}
    return places | {"flux": np.asarray(table["FLUX_PSF"], float), "error": np.asarray(table["FLUXERR_PSF"], float)}


def _matched(truth: Any, found: Digest) -> tuple[Any, Any]:
    """Fluxes and errors of the true stars; NaN where none is found within 1.5 pixels."""
    import numpy as np
    from scipy.spatial import KDTree

    away, index = KDTree(np.column_stack([found["x"], found["y"]])).query(np.column_stack([truth["x"], truth["y"]]))
    return tuple(np.where(away < 1.5, found[name][index], np.nan) for name in ("flux", "error"))


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    with np.load(folder / "truth.npz") as kept:
        truth = dict(kept)
    alpha = FWHM / 2 / np.sqrt(2 ** (1 / BETA) - 1)
    within = 1 - (1 + (_RADIUS / alpha) ** 2) ** (1 - BETA)  # of the light in the circle
    faint, told = truth["flux"] < 4000, []
    for found in (ours, theirs):
        flux, error = _matched(truth, found)
        good = np.isfinite(flux) & (error > 0)
        ratio = flux / truth["flux"] / within
        level = float(np.median(ratio[good]))
        pull = (flux / level / within - truth["flux"])[good] / error[good]
        low, high = np.quantile(pull, (0.1587, 0.8413))
        bias = [float(np.mean(ratio[part & good & (np.abs(ratio - 1) < 0.5)]) - 1) for part in (good, faint)]
        told.append((float(good.mean()), *bias, float(high - low) / 2, level))
    (_, whole, dim, pull, _), (_, their_whole, their_dim, _, _) = told
    text = (
        f"{truth['x'].size} stars, detection, PSF and fits on both sides: "
        f"found {told[0][0]:.1%} / {told[1][0]:.1%}, mean flux {whole:+.2%} / {their_whole:+.2%} off the truth in the "
        f"circle of the PSF, of faint stars {dim:+.2%} / {their_dim:+.2%}, robust pulls {pull:.3f} / {told[1][3]:.3f} "
        "(larun / peer)"
    )
    require(told[0][0] > 0.99, f"larun finds {told[0][0]:.1%} of the stars")
    require(told[1][0] > 0.99, f"the peer finds {told[1][0]:.1%} of the stars")
    allowed = max(0.06, 3.6 / np.sqrt(2 * truth["x"].size))  # three errors of a robust width where stars are few
    require(abs(pull - 1) < allowed, text)
    require(abs(dim) < max(abs(their_dim), 0.01), text)
    return text


CHAIN = (
    Case(
        topic="psf",
        name="chain",
        make=isolated_on_disk,
        larun=Side("larun", _product, _larun, _digest_larun),
        peer=Side("SExtractor + PSFEx", _plain, _chain, _digest_chain, program=_lacking(), children=True),
        check=_check,
        full=Size(1420, stars=5000),
        quick=Size(420, stars=400),
        bar=3,
        unit="star",
    ),
)
