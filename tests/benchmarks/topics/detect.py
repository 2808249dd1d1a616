"""Sources of a field with known truth, background included, against sep, photutils and SExtractor."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import FWHM, calibrated, scene
from tests.benchmarks.topics.background import with_photutils, with_sep

__all__ = ["CASES", "completeness", "kernel"]

_THRESHOLD = 5.0  # S/N, for everybody
_NEAR = 1.5  # pixels
_SEXTRACTOR = ("source-extractor", "sex", "sextractor")
_OPTIONS = {
    "BACK_SIZE": 64,
    "BACK_FILTERSIZE": 3,
    "DETECT_MINAREA": 1,
    "FILTER": "Y",
    "WEIGHT_TYPE": "NONE",
    "CATALOG_TYPE": "FITS_1.0",
    "MEMORY_PIXSTACK": 3000000,
    "MEMORY_OBJSTACK": 30000,
    "VERBOSE_TYPE": "QUIET",
    "NTHREADS": 2,
}
_COLUMNS = ("X_IMAGE", "Y_IMAGE", "FLUX_ISO", "FLUXERR_ISO", "FWHM_IMAGE", "ELLIPTICITY", "THETA_IMAGE", "FLAGS")


def kernel() -> Any:
    """The matched filter of SExtractor and sep for the stars of the scene: a Gaussian on 7 × 7 pixels, sum 1."""
    import numpy as np

    at = np.arange(-3, 4)
    one = np.exp(-4 * np.log(2) * (at / FWHM) ** 2)
    both = np.outer(one, one)
    return both / both.sum()


def completeness(truth: Any, x: Any, y: Any) -> tuple[float, float, float]:
    """Shares of the stars from S/N 5 on, and of those from 5 to 10, that were found; and of the found that are stars.

    A star is found where it and a source are each other's nearest, within 1.5 pixels. A source is a star where one of
    any S/N is as near.
    """
    import numpy as np
    from scipy.spatial import KDTree

    stars, found = np.column_stack([truth["x"], truth["y"]]), np.column_stack([x, y])
    gap, source = KDTree(found).query(stars, distance_upper_bound=_NEAR)
    near, star = KDTree(stars).query(found, distance_upper_bound=_NEAR)
    met = np.isfinite(gap)
    met[met] = star[source[met]] == np.flatnonzero(met)
    snr = truth["snr"]
    seen, faint = snr >= _THRESHOLD, (snr >= _THRESHOLD) & (snr < 2 * _THRESHOLD)
    return float(met[seen].mean()), float(met[faint].mean()), float(np.isfinite(near).mean())


def _data(folder: Path) -> Any:
    import numpy as np

    return np.load(folder / "data.npy")


def _larun(frame: Any) -> Any:
    return frame.detect(_THRESHOLD, fwhm=FWHM)


def _sep(data: Any) -> Any:
    """The filter that sep calls matched: weighted with the noise of every pixel."""
    import sep

    sep.set_extract_pixstack(3_000_000)
    level, rms = with_sep(data)
    return sep.extract(data - level, _THRESHOLD, err=rms, filter_kernel=kernel(), minarea=1)


def _sep_conv(data: Any) -> Any:
    """Plain convolution and the threshold to match, as in SExtractor: where the noise is smooth, the same filter.

    With ``filter_type="matched"`` sep's cleaning takes isolated faint sources away; here it does not.
    """
    import numpy as np
    import sep

    sep.set_extract_pixstack(3_000_000)
    level, rms = with_sep(data)
    weights = kernel()
    threshold = _THRESHOLD * float(np.sqrt((weights**2).sum()))
    return sep.extract(data - level, threshold, err=rms, filter_kernel=weights, filter_type="conv", minarea=1)


def _dao(data: Any) -> Any:
    import numpy as np
    from photutils.detection import DAOStarFinder

    level, rms = with_photutils(data)
    return DAOStarFinder(threshold=_THRESHOLD * float(np.median(rms)), fwhm=FWHM)(data - level)


def _image(folder: Path) -> Path:
    return folder / "image.fits"


def _larun_file(path: Path) -> Any:
    """As SExtractor does it: from a file of pixels to a file of sources."""
    import larun

    sources = larun.Frame.read(path, verify=False).detect(_THRESHOLD, fwhm=FWHM)
    sources.write(path.with_name("sources-larun.fits"), overwrite=True)
    return sources


def _sextractor_files(folder: Path) -> list[str]:
    import numpy as np

    weights = kernel()
    rows = "\n".join(" ".join(f"{value:.8f}" for value in row) for row in weights)
    (folder / "filter.conv").write_text(f"CONV NORM\n# Gaussian, FWHM {FWHM} pixels\n{rows}\n", encoding="ascii")
    (folder / "columns.param").write_text("\n".join(_COLUMNS) + "\n", encoding="ascii")
    (folder / "empty.sex").write_text("", encoding="ascii")
    threshold = _THRESHOLD * float(
        np.sqrt((weights**2).sum())
    )  # of the filtered pixels, in units of the unfiltered rms
    program = next(name for name in _SEXTRACTOR if shutil.which(name))
    own = {
        "CATALOG_NAME": folder / "sources-sextractor.fits",
        "PARAMETERS_NAME": folder / "columns.param",
        "FILTER_NAME": folder / "filter.conv",
        "DETECT_THRESH": threshold,
        "ANALYSIS_THRESH": threshold,
    }
    options = [text for name, value in (_OPTIONS | own).items() for text in (f"-{name}", str(value))]
    return [program, str(folder / "image.fits"), "-c", str(folder / "empty.sex"), *options]


def _sextractor(command: list[str]) -> Path:
    subprocess.run(command, check=True, capture_output=True)
    return Path(command[1]).with_name("sources-sextractor.fits")


def _digest_larun(sources: Any) -> Digest:
    return {"x": sources["x"].value, "y": sources["y"].value}


def _digest_sep(found: Any) -> Digest:
    return {"x": found["x"], "y": found["y"]}


def _digest_dao(found: Any) -> Digest:
    import numpy as np

    return {name: np.asarray(found[f"{name}_centroid"]) for name in "xy"}


def _digest_sextractor(path: Path) -> Digest:
    import numpy as np
    from astropy.io import fits

    table = fits.getdata(path)
    return {name: np.asarray(table[f"{name.upper()}_IMAGE"], dtype=float) - 1 for name in "xy"}


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np
    from scipy.spatial import KDTree

    with np.load(folder / "truth.npz") as file:
        truth = {name: file[name] for name in ("x", "y", "snr")}
    found = {name: completeness(truth, side["x"], side["y"]) for name, side in (("larun", ours), ("peer", theirs))}
    one, two = (np.column_stack([side["x"], side["y"]]) for side in (ours, theirs))
    common = int(np.isfinite(KDTree(one).query(two, distance_upper_bound=_NEAR)[0]).sum())
    (whole, faint, pure), (peer_whole, peer_faint, peer_pure) = found["larun"], found["peer"]
    require(pure >= min(peer_pure, 0.99) - 0.005, f"larun's purity is {pure:.3f}, the peer's {peer_pure:.3f}")
    require(whole >= peer_whole - 0.005, f"larun's completeness is {whole:.3f}, the peer's {peer_whole:.3f}")
    require(common > 0.8 * min(len(one), len(two)), f"only {common} of {len(one)} and {len(two)} sources are common")
    stars = int((truth["snr"] >= _THRESHOLD).sum())
    return (
        f"{common} sources are common to {len(one)} (larun) and {len(two)} (peer); of {stars} stars of S/N ≥ 5: "
        f"completeness {whole:.3f} / {peer_whole:.3f} (S/N 5-10: {faint:.3f} / {peer_faint:.3f}) "
        f"at purity {pure:.3f} / {peer_pure:.3f}, larun / peer"
    )


_LARUN = Side("larun", calibrated, _larun, _digest_larun)
_LARUN_FILE = Side("larun", _image, _larun_file, _digest_larun)


def _case(name: str, stars: int, peer: Side, bar: float | None, *, files: bool = False) -> Case:
    return Case(
        topic="detect",
        name=name,
        make=scene,
        larun=_LARUN_FILE if files else _LARUN,
        peer=peer,
        check=_check,
        full=Size(4096, stars=stars),
        quick=Size(1024, stars=stars // 16),
        bar=bar,
    )


_SEP = Side("sep", _data, _sep, _digest_sep)
_SEP_CONV = Side("sep (conv)", _data, _sep_conv, _digest_sep)
_DAO = Side("photutils", _data, _dao, _digest_dao)
_PROGRAM = Side("SExtractor", _sextractor_files, _sextractor, _digest_sextractor, program=_SEXTRACTOR, children=True)

CASES = (
    _case("20k", 20000, _SEP, 3),
    _case("20k", 20000, _SEP_CONV, None),
    _case("20k", 20000, _DAO, 20),
    _case("100k", 100000, _SEP, 20),
    _case("100k", 100000, _SEP_CONV, None),
    _case("100k", 100000, _PROGRAM, 8, files=True),
)
