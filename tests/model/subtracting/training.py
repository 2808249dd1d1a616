"""The table from which the probability of candidates is learnt, and the fit.

``python -m tests.model.subtracting.training`` makes it anew and prints the coefficients.

Frames of the same night (tres1, kb13475) are subtracted from each other: nothing has changed on them, so that what is
found is false. Stars of known place are added before, on the sky and on stars, with their photon noise: what is found
there is real. Half of the differences are turned, so that both signs are as frequent.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack

import larun
from larun.algorithms import likelihood
from tests.conftest import real_data

TABLE = Path(__file__).with_name("candidates.ecsv")
STARS = 40  # that are added to a frame
ON_STARS = 10  # of these
PENALTY = 1.0


def pairs() -> Iterator[tuple[str, larun.Frame, larun.Frame]]:
    """Two frames of the same field and night, calibrated and cleaned."""
    lights = sorted(path for path in real_data("tres1").glob("*.fit.fz") if not path.name.endswith("d.fit.fz"))
    dark = larun.MasterDark.combine(sorted(real_data("tres1").glob("*d.fit.fz")))
    for first, second in zip(lights[0:36:3], lights[1:36:3], strict=True):
        one, two = (larun.Frame.read(path).calibrate(dark, without=("bias", "flat")) for path in (first, second))
        yield "tres1", one.clean(), two.clean()
    frames = [larun.Frame.read(path) for path in sorted(real_data("kb13475").glob("*.fz"))]
    days = [np.floor(float(frame.header["MJD-OBS"]) + 0.5) for frame in frames]
    same = [n for n in range(len(frames) - 1) if days[n] == days[n + 1]]
    for n in same[::4]:
        one, two = (frames[m].calibrate(without=("bias", "dark", "flat")) for m in (n, n + 1))
        yield "kb13475", one.clean(), two.clean()


def with_stars(frame: larun.Frame, rng: np.random.Generator) -> tuple[larun.Frame, np.ndarray, np.ndarray]:
    """A frame with stars of a S/N of 6 to 160 added to it, and where they are."""
    psf = frame.psf(order=0)
    noise = float(np.sqrt(np.median(frame.background().variance)))
    faintest = noise / np.sqrt(np.sum(psf.at(50.0, 50.0) ** 2))
    ny, nx = frame.shape
    x, y = rng.uniform(15, nx - 15, STARS), rng.uniform(15, ny - 15, STARS)
    known = frame.detect().table
    on = rng.choice(len(known), min(ON_STARS, len(known)), replace=False)
    x[: len(on)], y[: len(on)] = known["x"][on].value, known["y"][on].value
    expected = psf.draw(frame.shape, x, y, faintest * 10 ** rng.uniform(0.78, 2.2, STARS))
    light = rng.poisson(np.maximum(expected, 0.0))  # the wings of an empirical PSF may be negative
    planes = {"data": frame.data + light.astype(np.float32), "variance": frame.variance + light.astype(np.float32)}
    return frame.with_planes(**planes), x, y


def candidates(first: larun.Frame, second: larun.Frame, rng: np.random.Generator) -> Table:
    """What is found, and which of it is real; what lies between the two, beside a star that was added, is left out."""
    more, x, y = with_stars(second, rng)
    sign = 1 if rng.random() < 0.5 else -1
    options = larun.SubtractOptions(order=1)
    if sign > 0:
        difference = more.subtract(first, options=options)
    else:
        difference = first.align_to(more).subtract(more, options=options)
    found = difference.detect().table
    fwhm = float(found.meta["fwhm"])
    away = np.hypot(found["x"].value[:, None] - x, found["y"].value[:, None] - y).min(axis=1)
    real = (away < fwhm) & (np.sign(found["flux"].value) == sign)
    made = Table({name: np.round(np.asarray(found[name], float), 4) for name in likelihood.COLUMNS})
    made["doubt"], made["real"] = np.asarray(found["doubt"]), real
    return made[real | (away > 4 * fwhm)]


def weights(real: np.ndarray) -> np.ndarray:
    """Both kinds weigh the same."""
    return np.where(real, 0.5 / real.mean(), 0.5 / (1 - real.mean()))


def fit(table: Table) -> dict[str, float]:
    """Coefficients of the regression, by Newton's method, with a small penalty on their squares."""
    seen = {"constant": np.ones(len(table)), **likelihood.features(table)}
    design, real = np.column_stack(list(seen.values())), np.asarray(table["real"], bool)
    weight, found = weights(real), np.zeros(len(seen))
    penalty = np.diag([0.0] + [PENALTY] * (len(seen) - 1))
    for _ in range(50):
        chance = 1 / (1 + np.exp(-design @ found))
        slope = design.T @ (weight * (real - chance)) - penalty @ found
        bend = (design * (weight * chance * (1 - chance))[:, None]).T @ design + penalty
        step = np.linalg.solve(bend, slope)
        found += step
        if np.abs(step).max() < 1e-10:
            break
    return dict(zip(seen, found.tolist(), strict=True))


def main() -> None:
    """Make the table anew, and print the coefficients."""
    rng, parts = np.random.default_rng(13475), []
    warnings.simplefilter("ignore")
    for name, first, second in pairs():
        try:
            part = candidates(first, second, rng)
        except larun.errors.LarunError as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
            continue
        part["field"], part["pair"] = name, len(parts)
        parts.append(part)
        print(f"{name} {len(parts)}: {part['real'].sum()} real, {(~part['real']).sum()} false", file=sys.stderr)
    table = vstack(parts)
    table.write(TABLE, overwrite=True)
    for name, value in fit(table).items():
        print(f'    "{name}": {value:.4f},')


if __name__ == "__main__":
    main()
