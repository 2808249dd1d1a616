"""Masters against themselves: those of every other frame differ by what their own variances say, or these are wrong."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np

from larun import flags as fl
from larun.algorithms.pulls import Pulls, pulls_of
from larun.errors import LarunError, LarunWarning
from larun.model.checks.kits import taken
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, judge, untested
from larun.model.grouping import Group
from larun.model.masters import Master, MasterBias, MasterDark, MasterFlat
from larun.model.transfer import spread

__all__ = ["master_noise"]

_CLASSES = {"bias": MasterBias, "dark": MasterDark, "flat": MasterFlat}
_MOST = 12  # frames of a master that are looked at
_TOLERANCE = 0.25  # of σ


def master_noise(material: Material) -> Iterator[Verdict]:
    """Halves of the frames of each master, combined apart: their difference over its own σ has a width of one."""
    readable = {facts.item.part for facts in material.raw}
    groups = [
        attrs.evolve(group, exposures=tuple(item for item in group.exposures if item.part in readable))
        for kind in _CLASSES
        for group in material.groups(kind)
    ]
    if not groups:
        yield untested("master noise", "there are no calibration frames")
    for group in groups:
        if len(group.exposures) < 3:
            yield untested("master noise", f"{len(group.exposures)} frames have no halves", group.name)
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LarunWarning)
                one, two = _halves(material, group)
        except LarunError as error:
            yield untested("master noise", str(error), group.name)
            continue
        yield _compare(group, one, two)


def _halves(material: Material, group: Group) -> tuple[Master, Master]:
    """Masters of every other frame, in the order of time, made as the night's own are."""
    recipe = material.recipe
    frames = spread(sorted(group.exposures, key=taken), _MOST)
    options: dict[str, Any] = {**getattr(recipe, group.kind)}
    options["options"] = attrs.evolve(recipe.build, camera=material.camera)
    if group.kind in ("dark", "flat"):
        options["bias"] = material.masters.best("bias", group.criteria, group.name)
    if group.kind == "flat":
        longest = max((item.exposure or 0.0 for item in frames), default=0.0)
        wanted = {**group.criteria, "exposure": longest} if longest else group.criteria
        options["dark"] = material.masters.best("dark", wanted, group.name)
        if options["dark"] is not None and not options["dark"].bias_removed:
            options["bias"] = None
    cls: Any = _CLASSES[group.kind]
    return cls.combine([f.part for f in frames[::2]], **options), cls.combine([f.part for f in frames[1::2]], **options)


def _compare(group: Group, one: Master, two: Master) -> Verdict:
    assert one.variance is not None
    assert two.variance is not None
    good = ((one.flags | two.flags) & (fl.UNUSABLE | fl.FLAT_INVALID)) == 0
    step = max(1, math.isqrt(one.data.size // 1_000_000))
    at = np.s_[::step, ::step]
    with np.errstate(invalid="ignore", divide="ignore"):
        pulls = (one.data[at] - two.data[at]) / np.sqrt(one.variance[at] + two.variance[at])
    found = pulls_of(np.where(good[at], pulls, np.nan))
    status = judge(found.width, found.width_error, 1.0, tolerance=_TOLERANCE)
    size = 100 * (1 / found.width - 1) if found.width > 0 else math.nan
    said = f"halves of {one.count} and {two.count} frames differ by {found.width:.3f} ± {found.width_error:.1g} σ"
    common: dict[str, Any] = {
        "test": "master noise",
        "where": group.name,
        "value": found.width,
        "error": found.width_error,
        "expected": 1.0,
        "unit": "σ",
        "evidence": _histogram(found),
    }
    if status in ("bad", "doubtful"):
        effect = f"{abs(size):.0f} % too {'large' if size > 0 else 'small'}"
        meaning = f"{said}: the errors of the {group.kind} master are {effect}"
        fix = "--set detector.gain=measured --set detector.read_noise=measured"
        return Verdict(status=status, meaning=meaning, fix=fix, **common)
    return Verdict(status=status, meaning=f"{said}, {100 * found.outside:.2g} % of the pixels beyond 4 σ", **common)


def _histogram(found: Pulls) -> Evidence:
    normal = np.exp(-(found.centres**2) / 2) / math.sqrt(2 * math.pi)
    return Evidence(
        x_label="difference of the halves (σ)",
        y_label="density",
        series=[
            Series("pixels", found.centres, np.maximum(found.density, 1e-7)),
            Series("Gaussian of width 1", found.centres, normal, line=True),
        ],
        log="y",
    )
