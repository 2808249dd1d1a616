"""larun: astronomical CCD/CMOS images from raw files to catalogues, with errors and provenance in every object.

>>> import larun
>>> frame = larun.Frame.read("raw/d1059.fits")  # doctest: +SKIP
>>> sources = frame.calibrate(masters).clean().detect().photometer()  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from larun import errors, flags, instruments, plots, simulate
    from larun.algorithms.engine_dao import DaoOptions
    from larun.algorithms.engine_segmentation import SegmentationOptions
    from larun.algorithms.engine_sep import SepOptions
    from larun.algorithms.jit import set_threads
    from larun.algorithms.overscan import OverscanOptions
    from larun.algorithms.subtraction import SubtractOptions
    from larun.algorithms.tracks import LinkOptions
    from larun.algorithms.zogy import ProperOptions
    from larun.detector import Amplifier, Detector, Section
    from larun.io.seal import Seal, Sealing
    from larun.model.astrometry.options import SolveOptions
    from larun.model.astrometry.solution import Solution
    from larun.model.audit import Audit, FileAudit, audit
    from larun.model.building import BuildOptions
    from larun.model.catalog import SourceCatalog
    from larun.model.checks.verdict import Report, Verdict
    from larun.model.curves.options import LightCurveOptions
    from larun.model.curves.transit import TransitFit, TransitOptions
    from larun.model.cutouts import Cutouts
    from larun.model.difference import DifferenceImage
    from larun.model.differencecurve import DifferenceCurve
    from larun.model.frame import Frame
    from larun.model.headers import Classified
    from larun.model.image import Image
    from larun.model.lightcurve import LightCurve
    from larun.model.masters import Master, MasterBias, MasterDark, MasterFlat, Masters
    from larun.model.matchedstack import MatchedStack
    from larun.model.measure.ellipses import KronOptions
    from larun.model.measure.matching import Match
    from larun.model.measure.measurements import read_measurements, write_measurements
    from larun.model.night import Night
    from larun.model.photometry.many import ZeroPoints, zero_points
    from larun.model.photometry.options import ZeroPointOptions
    from larun.model.photometry.repeatability import Repeatability, repeatability
    from larun.model.photometry.zero_point import ZeroPoint
    from larun.model.planes import Shared
    from larun.model.pointspread.options import PsfFitOptions, PsfOptions
    from larun.model.psf import PSF
    from larun.model.quality.grading import grade
    from larun.model.quality.measured import Quality
    from larun.model.recipe import Recipe
    from larun.model.reference.stars import ReferenceCatalog, ReferenceStars
    from larun.model.reference.store import ReferenceStore
    from larun.model.replay.recompute import Replay, replay
    from larun.model.replay.story import Story
    from larun.model.replay.telling import why
    from larun.model.replay.whatif import WhatIf
    from larun.model.replay.windows import window
    from larun.model.sky import SkyImage
    from larun.model.stack import Stack
    from larun.model.stacking.options import StackOptions
    from larun.model.time.site import Site
    from larun.model.time.timing import ExposureTime
    from larun.model.tracklets import Tracklets
    from larun.provenance import Provenance, operation
    from larun.report.sheets import write_sheets

__version__ = "0.1.0"

# Every public name and where it lives: loaded on first use, so that ``import larun`` costs next to nothing.
_HOMES = {
    "Amplifier": "larun.detector",
    "Audit": "larun.model.audit",
    "BuildOptions": "larun.model.building",
    "Classified": "larun.model.headers",
    "Cutouts": "larun.model.cutouts",
    "DaoOptions": "larun.algorithms.engine_dao",
    "Detector": "larun.detector",
    "DifferenceCurve": "larun.model.differencecurve",
    "DifferenceImage": "larun.model.difference",
    "ExposureTime": "larun.model.time.timing",
    "FileAudit": "larun.model.audit",
    "Frame": "larun.model.frame",
    "Image": "larun.model.image",
    "KronOptions": "larun.model.measure.ellipses",
    "LightCurve": "larun.model.lightcurve",
    "LightCurveOptions": "larun.model.curves.options",
    "LinkOptions": "larun.algorithms.tracks",
    "Master": "larun.model.masters",
    "MasterBias": "larun.model.masters",
    "MasterDark": "larun.model.masters",
    "MasterFlat": "larun.model.masters",
    "Masters": "larun.model.masters",
    "Match": "larun.model.measure.matching",
    "MatchedStack": "larun.model.matchedstack",
    "Night": "larun.model.night",
    "OverscanOptions": "larun.algorithms.overscan",
    "PSF": "larun.model.psf",
    "ProperOptions": "larun.algorithms.zogy",
    "Provenance": "larun.provenance",
    "PsfFitOptions": "larun.model.pointspread.options",
    "PsfOptions": "larun.model.pointspread.options",
    "Quality": "larun.model.quality.measured",
    "Recipe": "larun.model.recipe",
    "ReferenceCatalog": "larun.model.reference.stars",
    "ReferenceStars": "larun.model.reference.stars",
    "ReferenceStore": "larun.model.reference.store",
    "Repeatability": "larun.model.photometry.repeatability",
    "Replay": "larun.model.replay.recompute",
    "Report": "larun.model.checks.verdict",
    "Seal": "larun.io.seal",
    "Sealing": "larun.io.seal",
    "Section": "larun.detector",
    "SegmentationOptions": "larun.algorithms.engine_segmentation",
    "SepOptions": "larun.algorithms.engine_sep",
    "Shared": "larun.model.planes",
    "Site": "larun.model.time.site",
    "Solution": "larun.model.astrometry.solution",
    "SolveOptions": "larun.model.astrometry.options",
    "SkyImage": "larun.model.sky",
    "SourceCatalog": "larun.model.catalog",
    "Stack": "larun.model.stack",
    "StackOptions": "larun.model.stacking.options",
    "Story": "larun.model.replay.story",
    "SubtractOptions": "larun.algorithms.subtraction",
    "Verdict": "larun.model.checks.verdict",
    "Tracklets": "larun.model.tracklets",
    "TransitFit": "larun.model.curves.transit",
    "TransitOptions": "larun.model.curves.transit",
    "WhatIf": "larun.model.replay.whatif",
    "ZeroPoint": "larun.model.photometry.zero_point",
    "ZeroPointOptions": "larun.model.photometry.options",
    "ZeroPoints": "larun.model.photometry.many",
    "audit": "larun.model.audit",
    "grade": "larun.model.quality.grading",
    "operation": "larun.provenance",
    "read_measurements": "larun.model.measure.measurements",
    "repeatability": "larun.model.photometry.repeatability",
    "replay": "larun.model.replay.recompute",
    "set_threads": "larun.algorithms.jit",
    "why": "larun.model.replay.telling",
    "window": "larun.model.replay.windows",
    "write_measurements": "larun.model.measure.measurements",
    "write_sheets": "larun.report.sheets",
    "zero_points": "larun.model.photometry.many",
}
_MODULES = ("errors", "flags", "instruments", "plots", "simulate")

__all__ = [  # noqa: RUF022  # PSF is a class, no constant
    "Amplifier",
    "Audit",
    "BuildOptions",
    "Classified",
    "Cutouts",
    "DaoOptions",
    "Detector",
    "DifferenceCurve",
    "DifferenceImage",
    "ExposureTime",
    "FileAudit",
    "Frame",
    "Image",
    "KronOptions",
    "LightCurve",
    "LightCurveOptions",
    "LinkOptions",
    "Master",
    "MasterBias",
    "MasterDark",
    "MasterFlat",
    "Masters",
    "Match",
    "MatchedStack",
    "Night",
    "OverscanOptions",
    "PSF",
    "ProperOptions",
    "Provenance",
    "PsfFitOptions",
    "PsfOptions",
    "Quality",
    "Recipe",
    "ReferenceCatalog",
    "ReferenceStars",
    "ReferenceStore",
    "Repeatability",
    "Replay",
    "Report",
    "Seal",
    "Sealing",
    "Section",
    "SegmentationOptions",
    "SepOptions",
    "Shared",
    "Site",
    "SkyImage",
    "Solution",
    "SolveOptions",
    "SourceCatalog",
    "Stack",
    "StackOptions",
    "Story",
    "SubtractOptions",
    "Tracklets",
    "TransitFit",
    "TransitOptions",
    "Verdict",
    "WhatIf",
    "ZeroPoint",
    "ZeroPointOptions",
    "ZeroPoints",
    "audit",
    "errors",
    "flags",
    "grade",
    "instruments",
    "operation",
    "plots",
    "read_measurements",
    "repeatability",
    "replay",
    "set_threads",
    "simulate",
    "why",
    "window",
    "write_measurements",
    "write_sheets",
    "zero_points",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"larun.{name}")
    else:
        raise AttributeError(f"module 'larun' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
