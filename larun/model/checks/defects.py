"""Defects of the detector: columns, amplifiers, hot pixels; and masters that are not there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.corners import cell_means
from larun.algorithms.robust import mad_sigma
from larun.model.checks.kits import Kit, gain_of, kits, mean_frame, noise_of
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.transfer import planes, spread

__all__ = ["bad_columns", "dead_amplifier", "hot_pixels", "missing_masters"]

_SEGMENTS = 8  # of rows: a column may be bad from some row on
_AROUND = 15  # columns with which one is compared
_STANDS_OUT = 8.0  # σ of the columns
_RESPONSE = 0.05  # of the light
_LOST = 0.2  # of the light: more than a flat should have to mend
_OFFSET = 50.0  # ADU: less leaves with the bias
_NO_LIGHT = 0.02  # of the brightest amplifier
_HOT_SIGMA = 10.0
_HOT_RATE = 0.5  # electrons per second above the others
_HOT = (0.005, 0.02)  # of the pixels


def bad_columns(material: Material) -> Iterator[Verdict]:
    """Columns that see another light or hold another level than those around, over an eighth of their rows or more."""
    for kit in kits(material):
        sets = [items for items in (kit.biases, max(kit.by_filter.values(), key=len, default=[])) if items]
        if not sets:
            yield untested("bad columns", "there are neither biases nor flats", kit.where())
            continue
        detector = material.leveled(sets[0][0]).source.detector
        trimmed = detector.trimmed()
        shape, known = detector.trimmed_shape, _masters_flags(material, detector.trimmed_shape)
        pictures: dict[str, NDArray[np.float64]] = {}
        columns: dict[int, str] = {}
        missed: list[int] = []
        for items in sets:
            flat = items[0].kind == "flat"
            for number, one in enumerate(mean_frame(material, items)):
                at = trimmed.amplifiers[number].data
                deviation = _deviation(one.data, relative=flat)
                if np.isfinite(deviation).mean() < 0.5 or (flat and np.nanmedian(one.data) < _OFFSET):
                    continue  # an amplifier without light is another fault
                limit = _limit(deviation, _RESPONSE if flat else _OFFSET)
                found = np.abs(deviation) > limit
                found |= ~np.isfinite(deviation)
                pictures["flats" if flat else "biases"] = deviation
                bits = one.bad if known is None else one.bad | known[at.slices]
                for column in np.flatnonzero(found.any(axis=0)):
                    rows = _rows(found[:, column], len(one.data))
                    worst = deviation[:, column][found[:, column]]
                    size = worst[np.argmax(np.abs(worst))] if np.isfinite(worst).all() else math.nan
                    said = f"{100 * max(1 + size, 0.0):.0f} % of the light" if flat else f"{_plain(size, '+')} adu"
                    columns.setdefault(int(at.x0 + column), said)
                    slight = flat and abs(size) < _LOST
                    if not slight and bits[rows, column].mean() < 0.5 and int(at.x0 + column) not in missed:
                        missed.append(int(at.x0 + column))
        yield _columns(kit, columns, missed, pictures, shape[1])


def _deviation(data: NDArray[np.float32], *, relative: bool) -> NDArray[np.float64]:
    """(segments, nx): column medians less (or over) those around them."""
    from scipy import ndimage

    parts = np.array_split(np.asarray(data, np.float64), min(_SEGMENTS, max(1, len(data) // 16)))
    levels = np.stack([_median(part) for part in parts])
    smooth = ndimage.median_filter(np.where(np.isfinite(levels), levels, np.nanmedian(levels)), size=(1, _AROUND))
    if not relative:
        return np.asarray(levels - smooth)
    return np.asarray(levels / np.where(smooth > 0, smooth, np.nan) - 1)


def _median(part: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(part).any(axis=0)
    made = np.full(part.shape[1], np.nan)
    made[known] = np.nanmedian(part[:, known], axis=0)
    return made


def _limit(deviation: NDArray[np.float64], least: float) -> float:
    finite = deviation[np.isfinite(deviation)]
    scatter = mad_sigma(finite) if finite.size else 0.0
    return max(_STANDS_OUT * scatter, least)


def _plain(value: float, sign: str = "") -> str:
    """Three digits and more, without an exponent."""
    return f"{value:{sign}.0f}" if abs(value) >= 100 else f"{value:{sign}.3g}"


def _rows(found: NDArray[np.bool_], rows: int) -> NDArray[np.intp]:
    """The rows of the segments that were found."""
    parts = np.array_split(np.arange(rows), len(found))
    return np.concatenate([part for part, bad in zip(parts, found, strict=True) if bad])


def _around(image: NDArray[np.floating], cell: int = 16) -> NDArray[np.float64]:
    """What is smooth in an image: means of cells without what stands out; of the whole where a cell has none."""
    cell = min(cell, *image.shape)
    means = cell_means(image, cell)
    means = np.where(np.isfinite(means), means, np.nanmedian(image))
    rows, columns = (np.minimum(np.arange(n) // cell, m - 1) for n, m in zip(image.shape, means.shape, strict=True))
    return np.asarray(means[rows[:, None], columns[None, :]])


def _masters_flags(material: Material, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Pixels of the trimmed image that any master marks."""
    found = [m.flags for m in material.masters if m.shape == shape]
    if not found:
        return None
    return np.asarray((np.bitwise_or.reduce(found) & (fl.BAD | fl.FLAT_INVALID)) != 0)


def _columns(
    kit: Kit, columns: dict[int, str], missed: list[int], pictures: dict[str, NDArray[np.float64]], width: int
) -> Verdict:
    name, deviation = next(iter(sorted(pictures.items(), reverse=True)))
    worst = deviation[np.argmax(np.nan_to_num(np.abs(deviation)), axis=0), np.arange(deviation.shape[1])]
    unit = "relative" if name == "flats" else "adu"
    common: dict[str, Any] = {
        "test": "bad columns",
        "where": kit.where(),
        "value": float(len(columns)),
        "unit": "columns",
        "evidence": Evidence(
            x_label="column",
            y_label=f"{name}, against the columns around ({unit})",
            series=[Series(name, range(len(worst)), worst)],
        ),
    }
    if not columns:
        return Verdict(status="good", meaning=f"none of {width} columns stands out", **common)
    some = ", ".join(f"{column} ({said})" for column, said in sorted(columns.items())[:12])
    more = f" and {len(columns) - 12} more" if len(columns) > 12 else ""
    said = f"columns {some}{more} (counted from 0) differ from those around"
    if missed:
        names = ", ".join(map(str, sorted(missed)[:12]))
        meaning = f"{said}; not flagged: {names}"
        return Verdict(status="bad", meaning=meaning, fix="--bad-pixels MASK.fits", **common)
    meaning = f"{said}; those that no flat mends are flagged, no value of theirs counts"
    return Verdict(status="doubtful", meaning=meaning, fix="nothing: larun leaves them out", **common)


def dead_amplifier(material: Material) -> Iterator[Verdict]:
    """Amplifiers that see no light, or have no noise."""
    for kit in kits(material):
        items = spread(kit.flats or kit.science, 4)
        if not items:
            yield untested("dead amplifier", "there are neither flats nor science frames", kit.where())
            continue
        detector = material.leveled(items[0]).source.detector
        stacks = [planes(material.leveled(item), flagged=True) for item in items]
        levels = np.array([[float(np.nanmedian(plane[::4, ::4])) for plane in stack] for stack in stacks])
        steps = np.array([[_roughness(plane) for plane in stack] for stack in stacks]).max(axis=0)
        best = levels.max(axis=0)
        flat = bool(kit.flats)
        dead = []
        for number in range(len(detector.amplifiers)):
            noise = noise_of(material, kit, kit.amplifier(detector, number))
            dark = flat and (best[number] < _NO_LIGHT * best.max() or best[number] < noise)
            if dark or steps[number] < 0.05:
                dead.append(number)
        said = ", ".join(
            f"{amplifier.name}: {_plain(level)} adu" for amplifier, level in zip(detector.amplifiers, best, strict=True)
        )
        said += (
            " above the overscan" if all(a.overscan is not None for a in detector.amplifiers) else ", with their bias"
        )
        for number in dead:
            why = "has no noise" if steps[number] < 0.05 else f"sees no light in {len(items)} flats"
            meaning = f"amplifier {detector.amplifiers[number].name} {why} ({said})"
            where = kit.amplifier(detector, number)
            yield Verdict(
                test="dead amplifier",
                status="bad",
                where=where,
                meaning=meaning,
                value=float(best[number]),
                unit="adu",
                fix="--bad-pixels MASK.fits",
            )
        if not dead:
            meaning = f"every amplifier has {'light' if flat else 'noise'} ({said})"
            yield Verdict(test="dead amplifier", status="good", where=kit.where(), meaning=meaning)


def _roughness(plane: NDArray[np.float32]) -> float:
    """Scatter from pixel to pixel."""
    steps = np.abs(np.diff(plane[::4], axis=1))
    return float(np.nanmean(steps)) if np.isfinite(steps).any() else 0.0


def missing_masters(material: Material) -> Iterator[Verdict]:
    """Kinds of masters that science frames have to do without."""
    science = [item for item in material.exposures if item.kind == "science" and item.camera is not None]
    if not science:
        yield untested("missing masters", "there are no science frames")
        return
    # a camera that requires nothing gives frames that the observatory has corrected
    science = [item for item in science if item.camera is not None and item.camera.required]
    without = tuple(material.recipe.calibrate["without"])
    wanted: dict[str, list[str]] = {}
    held_by_darks = False
    for item in science:
        assert item.camera is not None
        held = any(
            m.kind == "dark" and not m.criteria.get("bias_removed") and not m.differences(item.criteria)
            for m in material.masters
        )
        for kind in ("bias", "dark", "flat"):
            there = any(not m.differences(item.criteria) for m in material.masters.of(kind))
            if not there:
                held_by_darks |= kind == "bias" and held
                label = f"{kind} in {item.filter}" if kind == "flat" and item.filter else kind
                wanted.setdefault(label, []).append(item.path.name)
    cameras = {item.camera for item in science if item.camera is not None}
    required = {kind for camera in cameras for kind in camera.required}
    for label, names in wanted.items():
        kind = label.split()[0]
        number = f"{len(names)} of {len(science)} science frames"
        if kind in without:
            status, meaning, fix = "good", f"{number} do without a {label}, as told (--without {kind})", ""
        else:
            held = kind == "bias" and held_by_darks
            status = "bad" if kind in required and not held else "doubtful"
            left = {
                "bias": "the darks hold theirs, and serve their own exposure only"
                if held
                else "the structure of the bias stays in them",
                "dark": "dark current and hot pixels stay in them",
                "flat": "pixels keep their own sensitivity, dust and vignetting",
            }[kind]
            meaning = f"{number} have no master {label}: {left}"
            fix = f"take them, or --masters DIR of another night; --without {kind} where none is needed"
        yield Verdict(
            test="missing masters",
            status=status,
            where=label,
            meaning=meaning,
            value=float(len(names)),
            unit="frames",
            fix=fix,
        )
    if not wanted:
        meaning = f"a bias, a dark and a flat fit each of {len(science)} science frames"
        if not science:
            meaning = "science frames of these cameras need no masters: the observatory has corrected them"
        yield Verdict(test="missing masters", status="good", meaning=meaning)


def hot_pixels(material: Material) -> Iterator[Verdict]:
    """Pixels whose dark current stands far above that of the others."""
    for kit in kits(material):
        groups = kit.by_exposure
        longest = max((seconds for seconds in groups if seconds > 0), default=0.0)
        if not longest:
            yield untested("hot pixels", "there are no darks", kit.where())
            continue
        items = groups[longest]
        detector = material.leveled(items[0]).source.detector
        zero = mean_frame(material, kit.biases) if kit.biases else None
        known = _masters_flags(material, detector.trimmed_shape)
        for number, one in enumerate(mean_frame(material, items)):
            where, gain = kit.amplifier(detector, number), gain_of(material, kit, number)
            dark = one.data if zero is None else one.data - zero[number].data
            electrons = np.where(one.bad, np.nan, dark - np.nanmedian(dark)) * gain
            electrons -= _around(electrons)
            noise = noise_of(material, kit, where) * gain
            limit = max(_HOT_SIGMA * noise, _HOT_RATE * longest)
            hot = electrons > limit
            count, total = int(hot.sum()), int(np.isfinite(electrons).sum())
            at = detector.trimmed().amplifiers[number].data
            flagged = 0 if known is None else int((hot & known[at.slices]).sum())
            fraction = count / max(total, 1)
            rates = np.sort(electrons[hot] / longest)[::-1]
            common: dict[str, Any] = {
                "test": "hot pixels",
                "where": where,
                "value": fraction,
                "error": math.sqrt(max(count, 1)) / max(total, 1),
                "evidence": Evidence(
                    x_label="hot pixels, by falling rate",
                    y_label="dark current (electron/s)",
                    series=[Series("rates", np.arange(1, rates.size + 1)[:3000], rates[:3000])],
                    log="xy" if rates.size else "",
                ),
            }
            meaning = (
                f"{100 * fraction:.2g} % of the pixels ({count}) are hotter than {limit / longest:.2g} electron/s in "
                f"darks of {longest:g} s, {flagged} of them flagged"
            )
            status = "bad" if fraction > _HOT[1] else "doubtful" if fraction > _HOT[0] else "good"
            fix = "cool the detector; dither" if status != "good" else ""
            yield Verdict(status=status, meaning=meaning, fix=fix, **common)
