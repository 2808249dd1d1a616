"""Stars that were measured many times: tests ``repeated stars`` and ``flat error``."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from larun.model.checks.material import Material
from larun.model.checks.repeating import RepeatedStars, repeated_stars
from larun.model.checks.verdict import Evidence, Series, Verdict, grade, judge, untested

__all__ = ["flat_error", "stars_repeat"]

_STARS, _FLAT = "repeated stars", "flat error"
_TOLERANCE = 0.10  # of an error
_MUCH = 1.3  # scatter over errors: less may be neighbours that are too faint to be seen
_MMAG = 1000 * 2.5 / math.log(10)
_SLIGHT, _LARGE = 3.0, 5.0  # mmag
_STILL = 1.0  # px
_TENTH = 0.1


def stars_repeat(material: Material) -> Iterator[Verdict]:
    """Residuals of repeated fluxes over their reported errors; the multiplicative term of bright stars is apart."""
    found, reasons = repeated_stars(material)
    if not found:
        yield untested(_STARS, _why_not(material, reasons))
    for item in found:
        yield _stars_verdict(item)
        for frame, factor in item.spoilt:
            yield Verdict(
                test=_STARS,
                status="doubtful",
                where=frame.name,
                meaning=f"fluxes of stars scatter {factor:.1f} times as much as in other frames of {item.field.name}",
                value=factor,
                expected=1.0,
                fix="leave this frame out of photometry",
            )


def flat_error(material: Material) -> Iterator[Verdict]:
    """What bright repeated stars scatter by beyond their errors, as a share of their flux."""
    found, reasons = repeated_stars(material)
    if not found:
        yield untested(_FLAT, _why_not(material, reasons))
    for item in found:
        yield _flat_verdict(item, bool(material.masters.of("flat")))


def _why_not(material: Material, reasons: tuple[str, ...]) -> str:
    if not material.facts:
        return "there is no calibrated science frame"
    if reasons:
        return "; ".join(reasons)
    return "no two frames of one filter and exposure show the same stars"


def _stars_verdict(item: RepeatedStars) -> Verdict:
    repeats, field = item.repeats, item.field
    status = judge(repeats.scale, repeats.scale_error, 1.0, tolerance=_TOLERANCE)
    stars = int(repeats.used.any(axis=1).sum())
    meaning = (
        f"{stars} stars in {len(field.frames)} frames scatter by {repeats.scale:.2f} ± {repeats.scale_error:.2f} "
        "times their reported errors"
    )
    if repeats.term > 5 * repeats.term_error and repeats.term > 0:
        meaning += f" and by {_MMAG * math.sqrt(repeats.term):.1f} mmag besides (see {_FLAT})"
    if status == "good" and abs(repeats.scale - 1) > _TOLERANCE:
        meaning += f"; that is {abs(repeats.scale - 1) / repeats.scale_error:.1f} σ from 1, a fault begins at 5"
    fix = ""
    if status in ("bad", "doubtful"):
        if repeats.scale < 1:
            meaning += f": errors are {100 * (1 / repeats.scale - 1):.0f} % too large"
        else:
            meaning += f": errors are {100 * (1 - 1 / repeats.scale):.0f} % too small"
        pixels = float(np.median([frame.noise.near.value for frame in field.frames]))
        empty = [frame.noise.scatter[1] for frame in field.frames if len(frame.noise.scatter) > 1]
        background = float(np.nanmedian(empty)) if np.isfinite(empty).any() else math.nan
        crowded = sum(frame.noise.structured for frame in field.frames) > len(field.frames) / 2
        if crowded and repeats.scale > 1:
            meaning += (
                "; neighbours too faint to be detected enter the apertures, by shares that change with the seeing"
            )
            fix = "fit point spread functions, or subtract images"
        elif abs(pixels - 1) > _TOLERANCE:
            meaning += f"; single pixels, too, have {pixels:.2f} times the modelled variance"
            fix = "--set detector.gain=measured"
        elif math.isfinite(background) and abs(background - 1) > _TOLERANCE:
            meaning += f"; so do empty apertures ({background:.2f}): the sky is the cause"
        elif repeats.scale > 1:
            status = "doubtful" if repeats.scale < _MUCH else status
            meaning += "; pixels and empty apertures do not: neighbours in the aperture, or stars that trail or blur"
        else:
            fix = "--set detector.gain=measured"
    return Verdict(
        test=_STARS,
        status=status,
        meaning=meaning,
        where=field.name,
        value=repeats.scale,
        error=repeats.scale_error,
        expected=1.0,
        fix=fix,
        evidence=_evidence(item),
    )


def _flat_verdict(item: RepeatedStars, flats: bool) -> Verdict:
    repeats, field = item.repeats, item.field
    if not math.isfinite(repeats.term_error):
        return untested(_FLAT, "all repeated stars are about equally bright: no term can be told apart", field.name)
    size = math.sqrt(max(repeats.term, 0.0))
    # the root of a small term has a lopsided error: that of a term of one error is the least
    error = repeats.term_error / (2 * max(size, math.sqrt(repeats.term_error) / 2))
    least = math.sqrt(repeats.term_error)
    mmag, its = _MMAG * size, _MMAG * error
    significant = repeats.term > 5 * repeats.term_error
    status = grade(mmag, 0.0, doubtful=_SLIGHT, bad=_LARGE) if significant else "good"
    if not significant and _MMAG * math.sqrt(5) * least > 2 * _LARGE:
        most = _MMAG * math.sqrt(max(repeats.term, 0.0) + 5 * repeats.term_error)
        return untested(
            _FLAT, f"the stars are too faint or too few: a term of up to {most:.0f} mmag would not show", field.name
        )
    bright = _bright(repeats.flux, repeats.used)
    noise = repeats.scale**2 * np.nanmedian(repeats.error[bright] ** 2)
    share = repeats.term / (repeats.term + noise) if repeats.term > 0 else 0.0
    moved = field.moved
    if significant:
        meaning = (
            f"bright stars scatter by {mmag:.1f} ± {its:.1f} mmag beyond their errors, {100 * share:.0f} % of the "
            f"variance of the brightest tenth; they move over the chip by up to {moved:.1f} pixels"
        )
    else:
        limit = _MMAG * math.sqrt(max(repeats.term, 0.0) + 2 * repeats.term_error)
        meaning = f"bright stars scatter by less than {limit:.1f} mmag beyond their errors"
        meaning += f"; they move by up to {moved:.1f} pixels"
    fix = ""
    if status in ("bad", "doubtful"):
        if moved < _STILL:
            meaning += ": too little for a flat to matter, so that seeing, scintillation or clouds do it"
            fix = "wider apertures; comparison stars nearby"
        elif sum(frame.noise.structured for frame in field.frames) > len(field.frames) / 2:
            meaning += (
                ": in a crowded field the light of neighbours does that as the seeing changes, and so does a flat"
            )
            fix = "fit point spread functions, or subtract images"
        elif not flats:
            meaning += ": the night has no flat to divide by"
            fix = "give flats (--masters)"
        else:
            meaning += ": the flat is wrong by about as much, or the shape of stars changes over the chip"
            fix = "better flats (twilight, of the same night); keep stars on their pixels"
    return Verdict(
        test=_FLAT,
        status=status,
        meaning=meaning,
        where=field.name,
        value=mmag,
        error=its,
        expected=0.0,
        unit="mmag",
        fix=fix,
        evidence=_evidence(item),
    )


def _bright(flux: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Measurements of the brightest tenth of the stars."""
    stars = used.any(axis=1)
    limit = np.quantile(flux[stars], 1 - _TENTH)
    return used & (flux >= limit)[:, None]


def _evidence(item: RepeatedStars) -> Evidence:
    """Scatter of each star over the night against its magnitude, and what the errors say."""
    repeats = item.repeats
    stars = np.flatnonzero(repeats.used.sum(axis=1) >= 2)
    stars = stars[np.argsort(repeats.flux[stars])]
    magnitude = -2.5 * np.log10(repeats.flux[stars])
    seen, told, errors = [], [], []
    for star in stars:
        own = repeats.used[star]
        # pulls hold what the fit took away
        variance = float(np.mean((repeats.pulls[star, own] * repeats.error[star, own]) ** 2))
        seen.append(_MMAG * math.sqrt(variance))
        errors.append(seen[-1] / math.sqrt(2 * own.sum()))
        told.append(float(np.mean(repeats.error[star, own] ** 2)))
    reported = np.array(told)
    fitted = np.sqrt(repeats.scale**2 * reported + max(repeats.term, 0.0))
    return Evidence(
        x_label="instrumental magnitude",
        y_label="scatter over the night (mmag)",
        series=(
            Series("stars", magnitude, seen, errors),
            Series("reported errors", magnitude, _MMAG * np.sqrt(reported), line=True),
            Series("fitted", magnitude, _MMAG * fitted, line=True),
        ),
        log="y",
    )
