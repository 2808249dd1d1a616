"""A frame on the pixels of another of the same field, stars found and matched, against astroalign."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import FWHM, READ_NOISE, pair

__all__ = ["CASES"]

_BRIGHT = 3e4  # electrons
_RIGHT = 1.0  # pixels: a transform that is farther off at a corner is another one
_ERROR = 0.1  # pixels, of positions in lists


def _frames(folder: Path, *, noisy: bool) -> Any:
    import numpy as np

    import larun

    more = {"unit": "electron", "gain": 1.0, "read_noise": READ_NOISE, "saturation": 1e6}
    made = []
    for name in ("2", ""):
        variance = np.load(folder / f"variance{name}.npy") if noisy else None
        made.append(larun.Frame.from_arrays(np.load(folder / f"data{name}.npy"), variance=variance, **more))
    return made


def _plain(folder: Path) -> Any:
    return _frames(folder, noisy=False)


def _with_errors(folder: Path) -> Any:
    return _frames(folder, noisy=True)


def _larun(frames: Any) -> Any:
    image, reference = frames
    return image.align_to(reference)


def _arrays(folder: Path) -> Any:
    import numpy as np

    return np.load(folder / "data2.npy"), np.load(folder / "data.npy")


def _register(arrays: Any) -> Any:
    import astroalign

    return astroalign.register(*arrays)


def _digest_larun(aligned: Any) -> Digest:
    return {"data": aligned.data}


def _digest_register(found: Any) -> Digest:
    return {"data": found[0]}


def _residual(folder: Path, data: Any) -> tuple[float, int]:
    """Rms along an axis of the distance of bright stars from where they are on the reference, and their number."""
    import numpy as np
    from scipy.spatial import KDTree

    import larun

    with np.load(folder / "truth.npz") as file:
        x, y, flux, x2, y2 = (file[name] for name in ("x", "y", "flux", "x2", "y2"))
    size, margin = len(data), 20
    use = flux > _BRIGHT
    for u, v in ((x, y), (x2, y2)):
        use &= (u > margin) & (v > margin) & (u < size - margin) & (v < size - margin)
    use &= KDTree(np.column_stack([x, y])).query(np.column_stack([x, y]), 2)[0][:, 1] > 5 * FWHM
    found = larun.Frame.from_arrays(np.nan_to_num(data), unit="electron", gain=1.0, read_noise=READ_NOISE)
    sources = found.detect(10.0, fwhm=FWHM)
    away = KDTree(np.column_stack([sources["x"].value, sources["y"].value])).query(np.column_stack([x[use], y[use]]))[0]
    require(use.sum() >= 5 and np.all(away < 2), f"of {use.sum()} bright stars some are up to {away.max():.3g} px off")
    return float(np.sqrt(np.mean(away**2) / 2)), int(use.sum())


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    (rms, stars), (peer_rms, _) = (_residual(folder, side["data"]) for side in (ours, theirs))
    require(rms <= max(1.05 * peer_rms, 0.02), f"stars are {rms:.3f} px off, the peer's {peer_rms:.3f}")
    return f"{stars} bright stars lie {rms:.4f} / {peer_rms:.4f} px rms from their places, larun / peer"


def lists(folder: Path, size: Size) -> None:
    """Pairs of lists of ``stars`` positions, of which half are not in the other list: turned and moved, with errors."""
    import numpy as np

    made = []
    for seed in range(size.frames):
        rng = np.random.default_rng(1000 + seed)
        common = size.stars // 2
        xy, rank = rng.uniform(0, size.side, (common, 2)), rng.uniform(0, 1, common)
        turn, shift = rng.uniform(-math.pi, math.pi), rng.uniform(-0.05, 0.05, 2) * size.side
        matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        middle = size.side / 2
        both = []
        for positions in (xy, (xy - middle) @ matrix.T + middle + shift):
            seen = positions + rng.normal(0, _ERROR, xy.shape)
            others = rng.uniform(0, size.side, (size.stars - common, 2))
            order = np.argsort(np.concatenate([rank, rng.uniform(0, 1, len(others))]))  # the brightest first
            both.append(np.concatenate([seen, others])[order])
        made.append((both, matrix, middle + shift - matrix @ np.full(2, middle)))
    np.savez(
        folder / "lists.npz",
        lists=np.array([item[0] for item in made]),
        matrix=np.array([item[1] for item in made]),
        offset=np.array([item[2] for item in made]),
    )


def _lists(folder: Path) -> Any:
    import numpy as np

    with np.load(folder / "lists.npz") as file:
        return file["lists"]


def _matched(given: Any) -> Any:
    from larun.algorithms.listmatch import match_lists

    return [match_lists(one, two, degree=0, noise=_ERROR) for one, two in given]


def _found(given: Any) -> Any:
    import astroalign

    made = []
    for one, two in given:
        try:
            made.append(astroalign.find_transform(one, two)[0])
        except (astroalign.MaxIterError, ValueError):
            made.append(None)
    return made


def _corners() -> Any:
    import numpy as np

    return np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 1000.0]])


def _digest_transforms(found: Any) -> Digest:
    """Where three points come to lie; NaN where nothing was found."""
    import numpy as np

    calls = [None if one is None else getattr(one, "transform", one) for one in found]
    return {"at": np.array([np.full((3, 2), np.nan) if call is None else call(_corners()) for call in calls])}


def _check_lists(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    with np.load(folder / "lists.npz") as file:
        right = np.einsum("nij,kj->nki", file["matrix"], _corners()) + file["offset"][:, None]
    solved, wrong = [], []
    for side in (ours, theirs):
        away = np.hypot(*np.moveaxis(side["at"] - right, -1, 0)).max(axis=1)
        solved.append(int(np.sum(away < _RIGHT)))
        wrong.append(int(np.sum(away >= _RIGHT)))
    require(solved[0] == len(right), f"larun solved {solved[0]} of {len(right)}")
    return (
        f"right transforms in {solved[0]} / {solved[1]} of {len(right)} pairs of lists, wrong ones in "
        f"{wrong[0]} / {wrong[1]}, larun / peer"
    )


_PEER = Side("astroalign.register", _arrays, _register, _digest_register)


def _case(name: str, setup: Any, bar: float | None) -> Case:
    return Case(
        topic="align",
        name=name,
        make=pair,
        larun=Side("larun", setup, _larun, _digest_larun),
        peer=_PEER,
        check=_check,
        full=Size(2048, stars=1000),
        quick=Size(512, stars=300),
        bar=bar,
    )


CASES = (
    _case("by stars", _plain, 5),
    _case("by stars, with variance", _with_errors, None),
    Case(
        topic="align",
        name="lists, half of them strangers",
        make=lists,
        larun=Side("larun", _lists, _matched, _digest_transforms),
        peer=Side("astroalign.find_transform", _lists, _found, _digest_transforms),
        check=_check_lists,
        full=Size(2048, frames=50, stars=100),
        quick=Size(1024, frames=10, stars=60),
        bar=None,
        unit="star",
        grows=False,
    ),
)
