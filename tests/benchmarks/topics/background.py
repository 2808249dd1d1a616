"""The smooth sky and its noise on a mesh of 64 pixels, against sep and photutils."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import READ_NOISE, SKY, calibrated, scene

__all__ = ["CASES", "with_photutils", "with_sep"]

_MESH = 64


def _data(folder: Path) -> Any:
    import numpy as np

    return np.load(folder / "data.npy")


def _larun(frame: Any) -> tuple[Any, Any]:
    sky = frame.background(mesh=_MESH)
    return sky.level, sky.rms


def with_sep(data: Any) -> tuple[Any, Any]:
    """Level and noise of every pixel."""
    import sep

    sky = sep.Background(data, bw=_MESH, bh=_MESH, fw=3, fh=3)
    return sky.back(), sky.rms()


def with_photutils(data: Any) -> tuple[Any, Any]:
    """Level and noise of every pixel, with the estimator of SExtractor, as larun and sep have it."""
    from astropy.stats import SigmaClip
    from photutils.background import Background2D, SExtractorBackground

    sky = Background2D(
        data, _MESH, filter_size=3, sigma_clip=SigmaClip(sigma=3.0), bkg_estimator=SExtractorBackground()
    )
    return sky.background, sky.background_rms


def _digest(result: tuple[Any, Any]) -> Digest:
    import numpy as np

    return {"level": result[0].astype(np.float32), "rms": result[1].astype(np.float32)}


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    shapes = {ours["level"].shape, ours["rms"].shape, theirs["level"].shape, theirs["rms"].shape}
    require(len(shapes) == 1, f"maps of shapes {shapes}")
    noise = float(np.sqrt(SKY + READ_NOISE**2))
    off = {name: float(np.mean(made["level"]) - SKY) for name, made in (("larun", ours), ("peer", theirs))}
    apart = float(np.std(ours["level"] - theirs["level"]))
    ratio = float(np.median(ours["rms"] / theirs["rms"]))
    require(
        abs(off["larun"]) <= abs(off["peer"]) + 0.1, f"larun's sky is off by {off['larun']:.2f} e-, {off['peer']:.2f}"
    )
    require(apart < 0.1 * noise, f"the levels scatter by {apart:.2f} e- against each other")
    require(0.9 < ratio < 1.1, f"the noise differs by a factor {ratio:.3f}")
    return (
        f"mean level above the true sky: larun {off['larun']:+.2f} e-, peer {off['peer']:+.2f} e-; levels agree to "
        f"{apart:.2f} e- rms ({apart / noise:.1%} of the noise), noise maps to {abs(ratio - 1):.1%}; all pixels"
    )


_LARUN = Side("larun", calibrated, _larun, _digest)


def _case(name: str, work: Any, bar: float) -> Case:
    return Case(
        topic="background",
        name="mesh-64",
        make=scene,
        larun=_LARUN,
        peer=Side(name, _data, work, _digest),
        check=_check,
        full=Size(4096, stars=20000),
        quick=Size(1024, stars=1250),
        bar=bar,
    )


CASES = (_case("sep", with_sep, 3), _case("photutils", with_photutils, 40))
