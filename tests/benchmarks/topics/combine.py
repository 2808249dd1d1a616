"""Twenty raw frames become one, against ``ccdproc.combine``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import bias_frames

__all__ = ["CASES"]

_SIGMA = 5.0
_ROWS = 64  # rows on which both clips are worked out anew, by their definitions


def _paths(folder: Path) -> list[Path]:
    """The files, read once: both sides find them in the memory of the system, not on the disk."""
    paths = sorted(folder.glob("bias-*.fits"))
    for path in paths:
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
    return paths


def _larun(paths: list[Path], **how: Any) -> Any:
    import larun

    return larun.MasterBias.combine(paths, **how)


def _ccdproc(paths: list[Path], **how: Any) -> Any:
    import ccdproc
    import numpy as np

    return ccdproc.combine([str(path) for path in paths], unit="adu", dtype=np.float32, **how)


def _clipped(paths: list[Path]) -> Any:
    """The clip that is like larun's: about the median, in units of the MAD's σ; the mean of what is left."""
    import numpy as np
    from astropy.stats import mad_std

    return _ccdproc(
        paths,
        method="average",
        sigma_clip=True,
        sigma_clip_low_thresh=_SIGMA,
        sigma_clip_high_thresh=_SIGMA,
        sigma_clip_func=np.ma.median,
        sigma_clip_dev_func=mad_std,
    )


def _digest(result: Any) -> Digest:
    import numpy as np

    return {"data": np.asarray(result.data, np.float32)}


def _check_median(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    one, two = ours["data"], theirs["data"]
    require(one.shape == two.shape, f"shapes {one.shape} and {two.shape}")
    worst = float(np.max(np.abs(one - two) / np.abs(two)))
    require(worst < 1e-6, f"medians differ by up to {worst:.2g} of their value")
    return f"medians equal to {max(worst, 1e-7):.1g} at all {one.size} pixels"


def _check_clipped(folder: Path, ours: Digest, theirs: Digest) -> str:
    """Both are equal to their own definition on some rows; the pixels where the definitions differ are counted."""
    import numpy as np
    from astropy.io import fits

    one, two = ours["data"], theirs["data"]
    require(one.shape == two.shape, f"shapes {one.shape} and {two.shape}")
    stack = np.stack([fits.getdata(path)[:_ROWS] for path in _paths(folder)]).astype(np.float64)
    for name, found, meant in (("larun", one, _by_larun(stack)), ("ccdproc", two, _by_ccdproc(stack))):
        off = np.abs(found[:_ROWS] - meant) > 1e-6 * np.abs(meant)
        require(off.mean() < 1e-4, f"{name} is not the clip it says it is at {off.mean():.2%} of the pixels")
    equal = np.abs(one - two) <= 1e-6 * np.abs(two)
    require(equal.mean() > 0.95, f"clipped means are equal at {equal.mean():.2%} of the pixels only")
    apart = float(np.median(np.abs(one - two)[~equal])) if (~equal).any() else 0.0
    return (
        f"clipped means equal to 1e-6 at {equal.mean():.2%} of the pixels; at the others (by {apart:.2g} adu in the "
        f"median) one clip rejects what the other keeps: ccdproc's MAD of {len(stack)} values is uncorrected, "
        f"larun's is corrected and at least the row's typical one; both equal their definitions on {_ROWS} rows"
    )


def _by_ccdproc(stack: Any) -> Any:
    import numpy as np

    middle = np.median(stack, axis=0)
    sigma = 1.482602218505602 * np.median(np.abs(stack - middle), axis=0)
    # the comparisons of ccdproc are strict: where the MAD is 0 all but the middle would go
    keep = np.abs(stack - middle) <= _SIGMA * sigma
    with np.errstate(invalid="ignore"):
        return np.where(keep, stack, 0).sum(axis=0) / keep.sum(axis=0)


def _by_larun(stack: Any) -> Any:
    import numpy as np

    from larun.algorithms.combine import _MAD_FACTOR

    middle = np.sort(stack, axis=0)[(len(stack) - 1) // 2]
    sigma = _MAD_FACTOR[len(stack)] * 1.482602218505602 * np.median(np.abs(stack - middle), axis=0)
    sigma = np.maximum(sigma, np.median(sigma, axis=1, keepdims=True))
    keep = np.abs(stack - middle) <= _SIGMA * sigma
    return np.where(keep, stack, 0).sum(axis=0) / keep.sum(axis=0)


_FULL, _QUICK = Size(4096, frames=20), Size(512, frames=20)

CASES = (
    Case(
        topic="combine",
        name="median",
        make=bias_frames,
        larun=Side("larun", _paths, lambda paths: _larun(paths, method="median"), _digest),
        peer=Side("ccdproc", _paths, lambda paths: _ccdproc(paths, method="median"), _digest),
        check=_check_median,
        full=_FULL,
        quick=_QUICK,
        bar=40,
        slow=True,
    ),
    Case(
        topic="combine",
        name="clipped-mad",
        make=bias_frames,
        larun=Side("larun", _paths, lambda paths: _larun(paths, clip="mad", sigma=_SIGMA), _digest),
        peer=Side("ccdproc", _paths, _clipped, _digest),
        check=_check_clipped,
        full=_FULL,
        quick=_QUICK,
        bar=22,
        slow=True,
    ),
)
