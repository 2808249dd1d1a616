"""A raw night becomes masters, frames and catalogues on disk: whole processes, their imports included."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks import inputs
from tests.benchmarks.cases import Case, Digest, Side, Size, require

__all__ = ["CASES", "check", "larun", "peers"]

_APERTURES = ("--radii", "3,4.5,7.5,12", "--radius-unit", "pixel", "--annulus", "15,24")  # those of the script
_LARUN = (sys.executable, "-c", "from larun.cli import main; main()", "reduce", *_APERTURES)
_PEERS = (sys.executable, "-m", "tests.benchmarks.scripts.night_with_peers")
_NEAR = 1.5  # pixels
_BRIGHT = 3e4  # electrons
_APERTURE = 1  # of four, both sides: 3 pixels; in larger ones the local sky decides, where larun masks neighbours


def _night(folder: Path, size: Size) -> None:
    inputs.night(folder, size)


def _setup(name: str, folder: Path) -> tuple[Path, Path]:
    """The raw folder, and a new one for what is made of it."""
    out = folder.parent / f"{folder.name}.{name}"
    shutil.rmtree(out, ignore_errors=True)
    return folder, out


def _run(command: tuple[str, ...], folders: tuple[Path, Path]) -> Path:
    folder, out = folders
    done = subprocess.run([*command, str(folder), str(out)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return out


def _digest(out: Path, names: tuple[str, str, str]) -> Digest:
    """Positions and fluxes of every catalogue, and how many files of each kind there are."""
    import numpy as np
    from astropy.table import QTable

    found: dict[str, Any] = {"files": [len(list((out / kind).glob("*.fits"))) for kind in ("masters", "frames")]}
    for path in sorted((out / "catalogs").glob("*.ecsv")):
        table = QTable.read(path)
        columns = [np.asarray(getattr(table[name], "value", table[name]), dtype=float) for name in names]
        found[path.stem] = np.column_stack(columns)
    return found


def _digest_peers(out: Path) -> Digest:
    """``flat_correct`` divides by the flat over its mean, larun by the flat whose median is 1: that is undone here."""
    import numpy as np
    from astropy.io import fits

    found = _digest(out, ("x_center", "y_center", f"flux_{_APERTURE}"))
    mean = float(np.nanmean(fits.getdata(out / "masters" / "flat.fits")))
    return {name: values if name == "files" else values / [1, 1, mean] for name, values in found.items()}


def check(folder: Path, ours: Digest, theirs: Digest) -> str:
    """Catalogues against each other and against the truth, frame by frame."""
    import numpy as np
    from scipy.spatial import KDTree

    from larun import simulate
    from tests.benchmarks.topics.detect import completeness

    truth = simulate.read_truth(folder)
    profile = simulate.render((41, 41), [20.0], [20.0], [1.0], fwhm=inputs.FWHM, beta=inputs.BETA)
    noise = np.sqrt((inputs.SKY + inputs.READ_NOISE**2) / (profile**2).sum())
    frames = truth.select("object")
    for name, made in (("larun", ours), ("peer", theirs)):
        require(made.keys() == {"files", *(frame.path.stem for frame in frames)}, f"{name}: catalogues {sorted(made)}")
        require(list(made["files"]) == [3, len(frames)], f"{name}: {made['files']} masters and frames on disk")
    common, ratios, scores = 0, [], []
    for frame in frames:
        one, two = ours[frame.path.stem], theirs[frame.path.stem]
        gap, index = KDTree(one[:, :2]).query(two[:, :2], distance_upper_bound=_NEAR)
        met = np.isfinite(gap)
        common += int(met.sum())
        fluxes = one[index[met], 2], two[met, 2]
        bright = np.minimum(*fluxes) > _BRIGHT
        ratios.append((fluxes[0] / fluxes[1])[bright])
        x, y = truth.positions(frame)
        inside = (x > 0) & (y > 0) & (x < truth.camera.shape[1] - 1) & (y < truth.camera.shape[0] - 1)
        snr = truth.rates(frame) * frame.exposure / noise
        stars = {"x": x[inside], "y": y[inside], "snr": snr[inside]}
        scores.append([completeness(stars, made[:, 0], made[:, 1])[::2] for made in (one, two)])
    ratio = np.concatenate(ratios)
    (whole, pure), (peer_whole, peer_pure) = np.mean(scores, axis=0)
    total, peer_total = (sum(len(made[frame.path.stem]) for frame in frames) for made in (ours, theirs))
    require(common > 0.8 * min(total, peer_total), f"only {common} of {total} and {peer_total} sources are common")
    require(len(ratio) > 5 and abs(np.median(ratio) - 1) < 0.003, f"fluxes differ by {np.median(ratio) - 1:.2%}")
    require(whole > peer_whole - 0.01, f"larun's completeness is {whole:.3f}, the peer's {peer_whole:.3f}")
    require(pure > min(peer_pure, 0.98) - 0.03, f"larun's purity is {pure:.3f}, the peer's {peer_pure:.3f}")
    return (
        f"3 masters, {len(frames)} frames and catalogues on disk; {common} sources are common to {total} (larun) and "
        f"{peer_total} (peer); {len(ratio)} bright fluxes in 3 pixels agree to {abs(np.median(ratio) - 1):.2%} "
        f"(median); completeness at S/N ≥ 5 {whole:.3f} / {peer_whole:.3f}, purity {pure:.3f} / {peer_pure:.3f}"
    )


def larun(command: tuple[str, ...] = _LARUN) -> Side:
    """``larun reduce`` with the apertures of the script, else its defaults."""
    names = ("x", "y", f"aperture_flux_{_APERTURE}")
    return Side(
        "larun",
        lambda folder: _setup("larun", folder),
        lambda folders: _run(command, folders),
        lambda out: _digest(out, names),
        children=True,
    )


def peers(command: tuple[str, ...] = _PEERS) -> Side:
    """The script with ccdproc, astroscrappy and photutils."""
    return Side(
        "ccdproc + photutils",
        lambda folder: _setup("peers", folder),
        lambda folders: _run(command, folders),
        _digest_peers,
        children=True,
    )


CASES = (
    Case(
        topic="night",
        name="raw to catalogues",
        make=_night,
        larun=larun(),
        peer=peers(),
        check=check,
        full=Size(2048, frames=10, stars=5000),
        quick=Size(512, frames=3, stars=310),
        bar=12,
        slow=True,
    ),
)
