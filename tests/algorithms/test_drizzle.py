"""Drops that fall on finer pixels: against areas counted out, against drizzle of STScI, and their noise."""

import math

import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms import jit
from larun.algorithms.drizzle import drop_area
from larun.algorithms.drizzled import DrizzleOptions, artefacts, drizzle
from larun.algorithms.mapping import affine
from larun.algorithms.resample import ResampleOptions
from larun.algorithms.resampled_noise import acf_at, packed, term_of, unpacked
from larun.algorithms.stacking import Layer, MeanOptions, Rows, stack
from larun.errors import OptionError

SHAPE = (40, 50)
SCALE = 0.5


def turned(k, scale=1.0, shape=SHAPE, origin=(0.0, 0.0)):
    """The k-th of some dithers, from pixels of a size."""
    c, s = math.cos(0.02 * k), math.sin(0.02 * k)
    matrix = np.array([[c, -s], [s, c]])
    first = np.array([0.5 * scale - 0.5, 0.5 * scale - 0.5])
    shift = np.array([0.37 * k, -0.61 * k])
    size = tuple(math.ceil(n / scale) for n in shape)
    return affine(matrix * scale, matrix @ first + shift, size)


def layer(data, mapping, *, variance=None, flags=None, **more):
    planes = (
        np.asarray(data, np.float32),
        np.full(np.shape(data), 4.0, np.float32) if variance is None else np.asarray(variance, np.float32),
        np.zeros(np.shape(data), np.uint32) if flags is None else flags,
    )

    def read(start, stop):
        return Rows(*(plane[start:stop] for plane in planes), {})

    return Layer(read, np.shape(data), mapping, **{"noise": 4.0, **more})


def test_areas_of_drops_are_those_that_are_counted_out():
    rng = np.random.default_rng(1)
    at = (np.arange(300) + 0.5) / 300 - 0.5
    inner_x, inner_y = np.meshgrid(at, at)
    for _ in range(12):
        angle, size = rng.uniform(0, 2 * math.pi), rng.uniform(0.3, 0.9)
        corners = rng.uniform(1.6, 2.4, 2) + size * np.array(
            [[math.cos(angle + k * math.pi / 2), math.sin(angle + k * math.pi / 2)] for k in range(4)]
        )
        drop = rng.uniform(0.2, 1.0)
        x, y = tuple(corners[:, 0]), tuple(corners[:, 1])
        for u, v in ((1, 1), (2, 1), (1, 2), (2, 2)):
            px, py = u + 0.5 + drop * inner_x, v + 0.5 + drop * inner_y
            inside = np.ones(px.shape, bool)
            for k in range(4):
                n = (k + 1) % 4
                inside &= (x[n] - x[k]) * (py - y[k]) - (y[n] - y[k]) * (px - x[k]) > 0
            assert drop_area(x, y, u, v, drop) == pytest.approx(inside.mean() * drop**2, abs=1e-3)
        # the other way round it is as large
        assert drop_area(x[::-1], y[::-1], 2, 1, drop) == pytest.approx(drop_area(x, y, 2, 1, drop), abs=1e-12)


@pytest.mark.parametrize("pixfrac", [0.6, 1.0])
def test_as_drizzle_of_stsci(pixfrac):
    resample = pytest.importorskip("drizzle.resample")
    rng = np.random.default_rng(2)
    frames = [rng.normal(100, 10, SHAPE).astype(np.float32) for _ in range(5)]
    noise = [rng.uniform(50, 150, SHAPE).astype(np.float32) for _ in frames]
    weights = [1.0, 2.0, 0.7, 1.3, 0.9]
    layers = [
        layer(data, turned(k), variance=var, weight=w)
        for k, (data, var, w) in enumerate(zip(frames, noise, weights, strict=True))
    ]
    fine = [turned(k, SCALE) for k in range(5)]
    made = drizzle(layers, fine, SHAPE, options=DrizzleOptions(scale=SCALE, pixfrac=pixfrac, sigma=math.inf))
    out = resample.Drizzle(out_shape=made.data.shape, fillval="nan", out_img2=[np.zeros(made.data.shape, np.float32)])
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    for k, (data, var, w) in enumerate(zip(frames, noise, weights, strict=True)):
        c, s = math.cos(0.02 * k), math.sin(0.02 * k)
        u, v = x - 0.37 * k, y + 0.61 * k
        native = c * u + s * v, -s * u + c * v
        pixmap = np.stack([(item + 0.5) / SCALE - 0.5 for item in native], axis=-1)
        out.add_image(
            data, 1.0, pixmap, data2=[var], pixfrac=pixfrac, weight_map=np.full(SHAPE, w, np.float32), in_units="cps"
        )
    inner = (slice(12, -12), slice(12, -12))
    assert np.nanmax(np.abs(made.data / SCALE**2 - out.out_img)[inner]) < 2e-3
    assert np.nanmax(np.abs(made.variance / SCALE**4 / out.out_img2[0] - 1)[inner]) < 1e-3
    assert np.array_equal(np.isnan(made.data[inner]), out.out_wht[inner] == 0)


def test_light_is_kept_and_a_flat_sky_stays_flat():
    flat = [layer(np.full(SHAPE, 8.0), turned(k), scale=2.0, weight=1.0 + k) for k in range(4)]
    made = drizzle(flat, [turned(k, SCALE) for k in range(4)], SHAPE, options=DrizzleOptions(pixfrac=0.8))
    assert np.nanmax(np.abs(made.data[8:-8, 8:-8] - 16 * SCALE**2)) < 1e-5
    assert made.coverage[16:-16, 16:-16].mean() == pytest.approx(1, abs=0.02)
    # a plane that is the sky of the frames is taken off wherever it lies
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    sloped = [layer(5 + 0.3 * x - 0.2 * y, turned(0), plane=(5.0, 0.3, -0.2))]
    made = drizzle(sloped, [turned(0, SCALE)], SHAPE, options=DrizzleOptions(pixfrac=1.0))
    assert abs(made.data[8:-8, 8:-8].mean()) < 1e-4
    # one bright pixel of one frame: all of its light arrives
    point = np.zeros(SHAPE)
    point[20, 25] = 1000.0
    made = drizzle([layer(point, turned(1))], [turned(1, SCALE)], SHAPE, options=DrizzleOptions(pixfrac=1.0))
    assert np.nansum(made.data) == pytest.approx(1000.0, rel=1e-3)


def test_missing_pixels_leave_holes_and_flags():
    flags = np.zeros(SHAPE, np.uint32)
    flags[20, 20] = fl.BAD
    one = [layer(np.ones(SHAPE), turned(0), flags=flags)]
    made = drizzle(one, [turned(0, SCALE)], SHAPE, options=DrizzleOptions(pixfrac=1.0))
    assert np.isnan(made.data[40:42, 40:42]).all()
    assert (made.flags[40:42, 40:42] == (fl.BAD | fl.NO_DATA)).all()
    assert (made.contributors[40:42, 40:42] == 0).all()
    assert np.isfinite(made.data).sum() == made.data.size - 4
    other = [*one, layer(np.ones(SHAPE), turned(1))]
    made = drizzle(other, [turned(k, SCALE) for k in (0, 1)], SHAPE, options=DrizzleOptions(pixfrac=1.0))
    assert (made.flags[40:42, 40:42] == 0).all()
    assert (made.contributors[40:42, 40:42] == 1).all()


def test_threads_and_memory_decide_nothing():
    rng = np.random.default_rng(3)
    layers = [layer(rng.normal(50, 5, SHAPE), turned(k)) for k in range(4)]
    fine = [turned(k, 0.25) for k in range(4)]
    results = []
    for threads, memory in ((1, 1e9), (4, 1e9), (3, 1e4)):
        jit.set_threads(threads)
        made = drizzle(layers, fine, SHAPE, options=DrizzleOptions(scale=0.25, pixfrac=0.6, max_memory=memory))
        results.append([plane.tobytes() for plane in made])
    jit.set_threads(None)
    assert results[0] == results[1] == results[2]


def test_what_one_frame_saw_is_found_and_stars_are_not():
    rng = np.random.default_rng(4)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    truth, layers = [], []
    for k in range(6):
        c, s = math.cos(0.02 * k), math.sin(0.02 * k)
        sky = np.full(SHAPE, 30.0)
        for at, flux in (((15.3, 20.6), 20000.0), ((33.1, 22.4), 3000.0)):  # undersampled
            px, py = c * at[0] - s * at[1] + 0.37 * k, s * at[0] + c * at[1] - 0.61 * k
            sky += flux / 2.2 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 0.7)
        data = rng.normal(sky, np.sqrt(sky + 16))
        hit = np.zeros(SHAPE, bool)
        hit[5 + 4 * k, 8:10] = True
        truth.append(hit)
        layers.append(layer(data + 400.0 * hit, turned(k), noise=46.0, sky=30.0))
    how = MeanOptions(method="median", resample=ResampleOptions(kernel="lanczos3"))
    middle = stack(layers, SHAPE, options=how).data
    found = [artefacts(one, middle, 4.0) for one in layers]
    inner = (slice(4, -4), slice(4, -4))
    assert all(one[inner][hit[inner]].all() for one, hit in zip(found, truth, strict=True))
    wrong = sum(int((one & ~hit)[inner].sum()) for one, hit in zip(found, truth, strict=True))
    assert wrong <= 2


@pytest.mark.parametrize("pixfrac", [0.5, 1.0])
def test_correlation_of_drops_is_that_of_noise(pixfrac):
    rng = np.random.default_rng(5)
    shape, frames, trials = (24, 24), 5, 400
    fine = [turned(k, SCALE, shape) for k in range(frames)]
    weights = np.linspace(0.6, 1.4, frames)
    images = []
    for _ in range(trials):
        layers = [layer(rng.normal(0, 2, shape), turned(k, shape=shape), weight=w) for k, w in enumerate(weights)]
        images.append(
            drizzle(layers, fine, shape, options=DrizzleOptions(pixfrac=pixfrac, sigma=math.inf, scale=SCALE)).data
        )
    made = np.array(images)[:, 18:32, 18:32]
    terms = tuple(term_of(one, "drizzle", w**2)._replace(drop=pixfrac) for one, w in zip(fine, weights, strict=True))
    again = unpacked(packed(terms))
    assert [term.drop for term in again] == pytest.approx([pixfrac] * frames)
    told = acf_at(again, [24.5], [24.5], [10.0])[0, 0]
    centre = made - made.mean(axis=0)
    variance = (centre**2).mean(axis=0)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 1)):
        here, there = centre[:, : 14 - dy, : 14 - dx], centre[:, dy:, dx:]
        covariance = (here * there).mean(axis=0)
        roots = np.sqrt(variance[: 14 - dy, : 14 - dx] * variance[dy:, dx:])
        assert told[3 + dy, 3 + dx] == pytest.approx(covariance.sum() / roots.sum(), abs=0.05)


def test_senseless_options_are_refused():
    for wrong in ({"scale": 0.05}, {"scale": 2}, {"pixfrac": 0}, {"pixfrac": 1.5}, {"sigma": 1}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            DrizzleOptions(**wrong)
    with pytest.raises(OptionError, match=r"would cover 5\.0 pixels"):
        DrizzleOptions(scale=0.2, pixfrac=1.0)
    with pytest.raises(OptionError, match="no frames"):
        drizzle([], [], SHAPE)
