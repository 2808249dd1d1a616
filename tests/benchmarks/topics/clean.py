"""Cosmic rays in one exposure, against astroscrappy, both judged by the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import READ_NOISE, SKY, calibrated, scene

__all__ = ["CASES"]

_SIGMA, _ITERATIONS = 4.5, 4
_HIT, _TOUCHED = 5.0, 0.5  # charge over the noise of the sky: must be found; may be called a ray


def _load(folder: Path) -> Any:
    import numpy as np

    return np.load(folder / "data.npy"), np.load(folder / "variance.npy")


def _larun(frame: Any) -> Any:
    """The size of the stars is measured; it is part of the work."""
    return frame.clean(sigma=_SIGMA, iterations=_ITERATIONS)


def _astroscrappy(planes: Any) -> Any:
    import astroscrappy

    data, _ = planes
    return astroscrappy.detect_cosmics(
        data,
        sigclip=_SIGMA,
        sigfrac=0.3,
        objlim=5.0,
        gain=1.0,
        readnoise=READ_NOISE,
        satlevel=1e6,
        niter=_ITERATIONS,
        sepmed=True,
        cleantype="meanmask",
        fsmode="median",
    )


def _digest_larun(frame: Any) -> Digest:
    from larun import flags

    return {"mask": (frame.flags & flags.COSMIC) != 0, "data": frame.data}


def _digest(result: Any) -> Digest:
    return {"mask": result[0].astype(bool), "data": result[1]}


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    with np.load(folder / "truth.npz") as truth:
        charge = truth["charge"] / np.sqrt(SKY + READ_NOISE**2)
    data = np.load(folder / "data.npy")
    found = {}
    for name, side in (("larun", ours), ("astroscrappy", theirs)):
        mask = side["mask"]
        require(mask.shape == charge.shape, f"{name}: a mask of {mask.shape}")
        changed = side["data"] != data
        require(changed[mask].mean() > 0.99, f"{name} did not replace {1 - changed[mask].mean():.1%} of what it found")
        require(not changed[~mask].any(), f"{name} changed pixels that it did not flag")
        found[name] = float(mask[charge > _HIT].mean()), float((charge[mask] > _TOUCHED).mean()), int(mask.sum())
    (recall, precision, count), (peer_recall, peer_precision, peer_count) = found["larun"], found["astroscrappy"]
    require(recall >= peer_recall - 0.003, f"larun's recall is {recall:.4f}, astroscrappy's {peer_recall:.4f}")
    require(precision >= peer_precision - 0.003, f"precision is {precision:.4f}, astroscrappy's {peer_precision:.4f}")
    return (
        f"of {int((charge > _HIT).sum())} pixels with more charge than 5 sigma: recall {recall:.4f} / "
        f"{peer_recall:.4f} at precision {precision:.4f} / {peer_precision:.4f} ({count} / {peer_count} pixels), "
        f"larun / astroscrappy"
    )


CASES = (
    Case(
        topic="clean",
        name="3000 tracks",
        make=scene,
        larun=Side("larun", calibrated, _larun, _digest_larun),
        peer=Side("astroscrappy", _load, _astroscrappy, _digest),
        check=_check,
        full=Size(4096, stars=20000, tracks=3000),
        quick=Size(1024, stars=1250, tracks=188),
        bar=12,
        slow=True,
    ),
)
