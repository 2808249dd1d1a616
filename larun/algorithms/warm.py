"""Every kernel compiled beforehand, in parts that need nothing of each other.

A part calls functions on a tiny image as the chain calls them: the types of the arguments are what counts, and arrays
of the chain are read-only. numba holds a lock while it compiles, so parts run in processes, which fill one folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms import jit, kernel_cache
from larun.algorithms.annulus import Annulus, Neighbours, annulus_sky
from larun.algorithms.aperture import aperture_sums
from larun.algorithms.arrays import read_only
from larun.algorithms.background import background
from larun.algorithms.calibrate import AmplifierValues, calibrate_block, master_bits
from larun.algorithms.combine import CombineOptions, Combiner, combine
from larun.algorithms.cosmic import lacosmic
from larun.algorithms.cosmic_common import CosmicOptions
from larun.algorithms.detect import DetectOptions, detect_matched
from larun.algorithms.drizzled import drizzle
from larun.algorithms.ellipse import ellipse_sums, kron_radius
from larun.algorithms.fwhm import alike
from larun.algorithms.kernelfield import KernelField, convolve
from larun.algorithms.listmatch import match_lists
from larun.algorithms.localmedian import block_medians, pixel_medians, spread_blocks, undecided
from larun.algorithms.mapping import affine
from larun.algorithms.masternoise import bias_noise, flat_noise, shared_variance, total_variance
from larun.algorithms.matchbasis import gauss_basis
from larun.algorithms.matchfit import MatchOptions, Side, fit_kernel
from larun.algorithms.morphology import windowed
from larun.algorithms.pack import stored_row
from larun.algorithms.peaks import Planes
from larun.algorithms.profilefit import fit_profiles
from larun.algorithms.psf import gaussian_psf
from larun.algorithms.psf_field import solve_field
from larun.algorithms.psf_fit import fit_stars
from larun.algorithms.psf_solve import NodeProblem, solve_nodes
from larun.algorithms.quickstars import quick_stars
from larun.algorithms.resample import ResampleOptions, resample
from larun.algorithms.resampled_noise import acf_at, term_of
from larun.algorithms.stacking import Layer, Rows, stack
from larun.algorithms.stored_kernels import Stored
from larun.algorithms.subtraction import SubtractOptions, subtract
from larun.algorithms.taken import look_at
from larun.errors import NotAligned

__all__ = ["FRAME_PARTS", "PARTS", "PURPOSES", "compile_all"]

_N = 64
_STARS = ((16.2, 18.1), (45.7, 40.4), (20.3, 47.9))


class _Image(NamedTuple):
    """Three stars on a flat sky."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    level: NDArray[np.float32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    @property
    def planes(self) -> Planes:
        return self.data, self.level, self.variance, self.flags


def _image() -> _Image:
    y, x = np.mgrid[:_N, :_N]
    sky = np.random.default_rng(1).normal(100.0, 10.0, (_N, _N))
    for at_x, at_y in _STARS:
        sky += 4000.0 * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / 4.5)
    flat = np.full((_N, _N), 100.0)
    places = np.array(_STARS)
    return _Image(
        read_only(sky, np.float32),
        read_only(flat, np.float32),
        read_only(np.zeros((_N, _N)), np.uint32),
        read_only(flat, np.float32),
        places[:, 0].copy(),
        places[:, 1].copy(),
    )


def _combine() -> None:
    data = np.random.default_rng(1).normal(100.0, 3.0, (5, 8, 16)).astype(np.float32)
    combine(data, np.full_like(data, 9.0), np.zeros(data.shape, np.uint32), options=CombineOptions(sigma=5.0))


def _combine_by_scatter() -> None:
    data = np.random.default_rng(1).normal(100.0, 3.0, (5, 8, 16)).astype(np.float32)
    combine(data, None, np.zeros(data.shape, np.uint32), options=CombineOptions(clip="mad", sigma=5.0))


def _calibrate() -> None:
    image = _image()
    master_bits((_N, _N), image.flags, image.flags, image.flags)
    made = calibrate_block(
        image.data, image.flags, np.zeros(_N), amplifier=AmplifierValues(gain=1.0, read_noise=5.0), bias=image.level
    )
    data = read_only(made.data, np.float32)
    terms = bias_noise(image.variance, gain=1.0), flat_noise(image.variance)
    shared_variance(data, image.level, terms[0])
    total_variance(data, made.variance, image.level, terms)


def _clean() -> None:
    image = _image()
    struck = image.data.copy()
    struck[30, 10:14] += 3000.0
    none = np.zeros((_N, _N), bool)
    lacosmic(read_only(struck, np.float32), image.variance, none, none, options=CosmicOptions(fwhm=3.5))


def _background() -> None:
    image = _image()
    background(
        image.data, image.variance, np.zeros((_N, _N), bool)
    ).level.sum()  # the plane is made when it is asked for


def _detect() -> None:
    image = _image()
    detect_matched(*image.planes, options=DetectOptions(fwhm=3.5))
    alike(np.zeros((3, 3)))


def _aperture() -> None:
    image = _image()
    aperture_sums(image.data, image.variance, image.flags, image.x, image.y, (3.0, 5.0))


def _bad_pixels() -> None:
    image = _image()
    block_medians(image.data, undecided(image.data, 30.0, 30.0, False)[0])
    pixel_medians(image.data, spread_blocks((_N, _N)))
    block_medians(image.data, spread_blocks((_N, _N)))


def _stored() -> None:
    line = read_only(np.zeros(16), np.float32)
    stored_row(line, read_only(line.view(np.uint32), np.uint32), True, np.empty(16, np.uint16))
    stored = Stored(
        read_only(np.zeros((5, 8, 16)), np.uint16),
        read_only([[0, 0, 16]], np.int64),
        read_only(np.ones((1, 5, 8)), np.float64),
        read_only(np.zeros(5), np.float32),
        read_only([65535.0], np.float64),
        read_only(np.ones(5), np.float64),
    )
    combiner = Combiner(5, 16, options=CombineOptions(sigma=5.0))
    complete = combiner.complete(np.ones((5, 16)))
    assert complete is not None
    combiner.rows(0, stored, complete, np.empty((8, 16), np.float32), np.empty((8, 16), np.float32))


def _annulus() -> None:
    image = _image()
    stars = Neighbours(image.x, image.y, np.full(3, 6.0))
    annulus_sky(image.data, image.flags, image.x, image.y, Annulus(inner=8.0, outer=14.0), neighbours=stars)


def _ellipse() -> None:
    image, size = _image(), np.full(3, 2.0)
    ellipses = size, size, np.zeros(3)
    kron_radius(image.data, image.flags, image.x, image.y, ellipses, level=np.full(3, 100.0))
    axes = size[:, None], size[:, None], np.zeros(3)
    ellipse_sums(image.data, image.variance, image.flags, image.x, image.y, axes)


def _morphology() -> None:
    image = _image()
    mask = int(fl.UNUSABLE & ~fl.SATURATED)
    windowed(image.planes, image.x, image.y, size=np.full(3, 3.5), fwhm=3.5, mask=mask)


def _odds() -> None:
    places = np.random.default_rng(1).uniform(0.0, 100.0, (20, 2))
    match_lists(places, places)


def _resample(kernel: str = "lanczos3") -> None:
    image, mapping = _image(), affine(np.eye(2), [0.5, 0.0], (_N, _N))
    flags = image.flags.copy()
    flags[30, 10:14] = fl.BAD  # what is masked is filled
    resample(image.data, image.variance, read_only(flags, np.uint32), mapping, options=ResampleOptions(kernel=kernel))
    acf_at((term_of(mapping, kernel),), image.x, image.y, [3.0])


def _area() -> None:
    _resample("area")


def _quick() -> None:
    image = _image()
    quick_stars(image.data, image.flags)


def _stack() -> None:
    image, mapping = _image(), affine(np.eye(2), [0.5, 0.0], (_N, _N))

    def read(start: int, stop: int) -> Rows:
        return Rows(image.data[start:stop], image.variance[start:stop], image.flags[start:stop], {})

    stack([Layer(read, (_N, _N), mapping, fwhm=fwhm) for fwhm in (3.0, 4.0)], (_N, _N))


def _drizzle() -> None:
    image, mapping = _image(), affine(np.eye(2), [0.5, 0.0], (_N, _N))

    def read(start: int, stop: int) -> Rows:
        return Rows(image.data[start:stop], image.variance[start:stop], image.flags[start:stop], {})

    drizzle([Layer(read, (_N, _N), mapping)] * 3, [mapping] * 3, (_N, _N))
    acf_at((term_of(mapping, "drizzle"),), image.x, image.y, [3.0])


def _psf() -> None:
    image, psf = _image(), gaussian_psf(3.0)
    psf.draw((_N, _N), image.x, image.y, image.x)
    psf.values(image.x, image.y)
    fit_stars(image.planes, psf, image.x, image.y)
    solve_nodes(NodeProblem(image.planes, image.x, image.y, np.full(3, 4e4), 1.0, int(fl.UNUSABLE)), psf, psf)


def _crowded() -> None:
    image, psf = _image(), gaussian_psf(3.0)
    solve_field(image.planes, psf, image.x, image.y)
    solve_field(image.planes, psf, image.x, image.y, acf=np.ones((3, 3)))


def _profiles() -> None:
    image = _image()
    fit_profiles(image.planes, image.x, image.y, fwhm=3.5)


def _subtract() -> None:
    image = _image()
    side = Side(image.data, image.variance, image.flags, 100.0)
    options = MatchOptions(order=0, half_stamp=6)
    parts = gauss_basis((1.0,), (1,), 4)
    with contextlib.suppress(NotAligned):
        fit_kernel(side, side, parts, image.x, image.y, options=options)
    own = KernelField(
        images=read_only(parts.images(), np.float64),
        coefficients=read_only(np.ones((3, 1)), np.float64),
        domain=(32.0, 32.0, 32.0, 32.0),
    )
    for variance in (None, image.variance):
        convolve(own, image.data, variance, image.flags)
    taken = look_at(image.data, image.variance, image.flags)
    with contextlib.suppress(NotAligned):
        subtract(taken, taken, options=SubtractOptions(direction="reference", order=0))


#: What is compiled together; what takes longest comes first, so that processes end together.
PARTS: Mapping[str, Callable[[], None]] = {
    "detect": _detect,
    "combine": _combine,
    "crowded": _crowded,
    "psf": _psf,
    "subtract": _subtract,
    "quick": _quick,
    "stored": _stored,
    "resample": _resample,
    "annulus": _annulus,
    "bad_pixels": _bad_pixels,
    "clean": _clean,
    "odds": _odds,
    "stack": _stack,
    "calibrate": _calibrate,
    "aperture": _aperture,
    "background": _background,
    "combine_by_scatter": _combine_by_scatter,
    "profiles": _profiles,
    "morphology": _morphology,
    "area": _area,
    "drizzle": _drizzle,
    "ellipse": _ellipse,
}

#: Those that a science frame needs from its raw file to its catalogue.
FRAME_PARTS = ("calibrate", "clean", "background", "detect", "aperture", "annulus")

_NIGHT = (*FRAME_PARTS, "combine", "stored", "bad_pixels")
_STACKS = (*_NIGHT, "quick", "odds", "resample", "stack")
#: Those that a purpose needs: a night from its raw files to catalogues, its stacks besides, differences besides, all.
PURPOSES: Mapping[str, tuple[str, ...]] = {
    "night": _NIGHT,
    "stacks": _STACKS,
    "differences": (*_STACKS, "psf", "subtract"),
    "everything": tuple(PARTS),
}


def compile_all(processes: int, parts: Sequence[str] = tuple(PARTS)) -> int:
    """Compile what is not kept yet, and return how many kernels that were.

    Parameters
    ----------
    processes : int
        How many to start; 1 compiles in this process.
    parts : sequence of str, optional
        Which of :data:`PARTS`, by default all. Which purposes are served then is noted.

    Raises
    ------
    concurrent.futures.process.BrokenProcessPool
        If a process is killed.
    """
    parts = [name for name in PARTS if name in set(parts)]
    count = min(processes, len(parts))
    if count <= 1 or kernel_cache.folder() is None:  # where nothing is kept, no process helps another
        made = sum(_run(name) for name in parts)
    else:
        with ProcessPoolExecutor(count, get_context("spawn"), initializer=_start) as pool:
            made = sum(pool.map(_run, parts))
    for purpose, needed in PURPOSES.items():
        if set(needed) <= set(parts):
            kernel_cache.set_ready(purpose)
    return made


def _start() -> None:
    import gc

    jit.end_with_parent()
    jit.set_threads(1)
    gc.disable()  # short-lived, and much that is made by compiling stays anyway


def _run(name: str) -> int:
    before = sum(own.misses() for own in jit.kernels())
    PARTS[name]()
    return sum(own.misses() for own in jit.kernels()) - before
