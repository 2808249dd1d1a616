"""Acceptance 34: threads, memory limits and the order of files change neither a bit nor an id."""

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import larun
from larun.algorithms import jit
from larun.model.building import BuildOptions


@pytest.fixture
def one_thread_after():
    yield
    larun.set_threads(None)


def chain(sample, order, threads, max_memory):
    """Everything from the raw files on, as bytes and ids."""
    larun.set_threads(threads)
    options = BuildOptions(max_memory=max_memory)
    bias = larun.MasterBias.combine(order(sample.paths("bias")), options=options)
    dark = larun.MasterDark.combine(order(sample.paths("dark")), bias=bias, options=options)
    flat = larun.MasterFlat.combine(order(sample.paths("flat", "V")), bias=bias, options=options)
    frame = larun.Frame.read(sample.paths("object", "V")[1]).calibrate(order([bias, dark, flat]))
    clean = frame.clean()
    catalog = clean.detect().photometer()
    galaxies = catalog.morphology().photometer(aperture="kron")
    by_scatter = larun.MasterBias.combine(order(sample.paths("bias")), clip="mad", options=options)
    return bias, dark, flat, frame, clean, clean.bin(2), catalog, galaxies, by_scatter


@pytest.fixture(scope="module")
def reference(sample):
    return chain(sample, list, 1, 1e9)


@pytest.mark.usefixtures("one_thread_after")
@pytest.mark.parametrize(
    ("threads", "max_memory", "order"),
    [
        (2, 1e9, list),
        (1, 4e5, lambda items: list(items)[::-1]),  # a few rows at a time, streamed from disk
        (2, 1.5e6, lambda items: [*items[2:], *items[:2]]),
        (3, 1.0, lambda items: list(items)[::-1]),  # one row at a time
    ],
)
def test_acceptance_34_the_same_bits_and_ids(sample, reference, threads, max_memory, order):
    made = chain(sample, order, threads, max_memory)
    for one, two in zip(made, reference, strict=True):
        assert one.provenance.id == two.provenance.id
        assert one.identical(two)


@pytest.mark.usefixtures("one_thread_after")
@pytest.mark.parametrize(("threads", "band"), [(1, 1), (2, 1), (2, 7), (3, 10_000)])
def test_acceptance_34_the_same_bits_in_bands_of_any_size(sample, reference, monkeypatch, threads, band):
    spread, wanted = [], band

    def in_other_bands(rows, work, band=64):
        spread.append(band)
        jit.over_rows(rows, work, wanted)

    modules = [module for name, module in sys.modules.items() if name.startswith("larun.") and module is not jit]
    for module in modules:
        if getattr(module, "over_rows", None) is jit.over_rows:
            monkeypatch.setattr(module, "over_rows", in_other_bands)
    for one, two in zip(chain(sample, list, threads, 1e9), reference, strict=True):
        assert one.provenance.id == two.provenance.id
        assert one.identical(two)
    assert len(spread) > 20
    assert all(module.over_rows is in_other_bands for module in modules if hasattr(module, "over_rows"))


def test_acceptance_34_masters_in_memory_or_streamed_have_the_same_bits(sample, reference):
    frames = [larun.Frame.read(path) for path in sample.paths("dark")]
    dark = larun.MasterDark.combine(frames, bias=reference[0])
    assert dark.data.tobytes() == reference[1].data.tobytes()
    assert dark.provenance.id == reference[1].provenance.id


def test_acceptance_34_another_process_makes_the_same(sample, reference, tmp_path):
    script = (
        "import json, sys, warnings, larun\n"
        "warnings.simplefilter('ignore')\n"
        "bias = larun.MasterBias.combine(json.loads(sys.argv[1]))\n"
        "bias.write(sys.argv[2])\n"
        "print(bias.provenance.id)\n"
    )
    paths = json.dumps([str(path) for path in sample.paths("bias")[::-1]])
    done = subprocess.run(
        [sys.executable, "-c", script, paths, str(tmp_path / "bias.fits")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == reference[0].provenance.id
    assert larun.MasterBias.read(tmp_path / "bias.fits").identical(reference[0])


def test_ids_change_with_what_decides_pixels_and_not_with_the_rest(sample, reference):
    bias = reference[0]
    paths = sample.paths("bias")
    same = [
        larun.MasterBias.combine(paths, sigma=5),
        larun.MasterBias.combine(iter(paths), options=BuildOptions(max_memory=3e5)),
        larun.MasterBias.combine([str(path) for path in paths]),
    ]
    assert {made.provenance.id for made in same} == {bias.provenance.id}
    other = [
        larun.MasterBias.combine(paths, sigma=6),
        larun.MasterBias.combine(paths, method="median"),
        larun.MasterBias.combine(paths[1:]),
        larun.MasterBias.combine(paths, options=BuildOptions(overscan=larun.OverscanOptions(method="polynomial"))),
        larun.MasterBias.combine(paths, options=BuildOptions(given={"read_noise": 6.5})),
    ]
    assert len({made.provenance.id for made in [*other, bias]}) == 6


def test_max_memory_keeps_a_combination_small_whatever_the_number_of_frames(tmp_path):
    """Peak memory of numpy for 4 and for 16 tall frames that are streamed: a frame more costs next to nothing."""
    from astropy.io import fits

    rng = np.random.default_rng(1)
    paths = []
    for number in range(16):
        header = fits.Header({"GAIN": 1.5, "RDNOISE": 6.0, "IMAGETYP": "bias"})
        counts = np.rint(1000 + 4 * rng.standard_normal((6000, 40))).astype(np.uint16)
        fits.PrimaryHDU(counts, header).writeto(tmp_path / f"{number:02d}.fits")
        paths.append(tmp_path / f"{number:02d}.fits")
    options = BuildOptions(max_memory=1e5)
    larun.MasterBias.combine(paths[:3], options=options)  # compile and import first
    peaks = []
    for count in (4, 16):
        tracemalloc.start()
        larun.MasterBias.combine(paths[:count], options=options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    one_frame = 6000 * 40 * (4 + 4 + 4)
    assert (peaks[1] - peaks[0]) / 12 < 0.3 * one_frame


@pytest.mark.parametrize("options", [{"method": "median"}, {"method": "mean"}, {"clip": "mad"}, {}])
@pytest.mark.parametrize(("count", "plain"), [(7, False), (6, True), (2, True), (1, False)])
def test_stored_integers_combine_to_the_bits_of_frames_in_memory(tmp_path, options, count, plain):
    """Two amplifiers, cosmic rays and a saturated pixel; whatever the memory and the threads.

    With overscans and unsigned integers, or without and signed ones.
    """
    from astropy.io import fits

    rng = np.random.default_rng(2)
    paths, frames = [], []
    for number in range(count):
        header = fits.Header({"GAINA": 1.5, "GAINB": 1.7, "RDNOISEA": 6.0, "RDNOISEB": 9.0, "IMAGETYP": "bias"})
        header["DATASECA"], header["DATASECB"] = "[1:60,1:70]", "[61:120,1:70]"
        if not plain:
            header["BIASSECA"], header["BIASSECB"] = "[121:135,1:70]", "[136:150,1:70]"
        header["SATURATA"] = header["SATURATB"] = 30000
        counts = np.rint(1000 + 5 * rng.standard_normal((70, 150))).astype(np.uint16)
        counts[rng.integers(0, 70, 20), rng.integers(0, 120, 20)] += 900
        counts[33, 44] = 32000 if number == 2 else 1001
        stored = counts.astype(np.int16 if plain else np.uint16)
        fits.PrimaryHDU(stored, header).writeto(tmp_path / f"{number}.fits")
        paths.append(tmp_path / f"{number}.fits")
        frames.append(larun.Frame.read(paths[-1]))
    assert len(frames[0].detector.amplifiers) == 2
    expected = larun.MasterBias.combine(frames, **options)
    for threads in (1, 2):
        jit.set_threads(threads)
        try:
            for memory in (1e4, 1e9):
                made = larun.MasterBias.combine(paths, options=BuildOptions(max_memory=memory), **options)
                assert made.provenance.id == expected.provenance.id
                for plane in ("data", "variance", "flags"):
                    np.testing.assert_array_equal(getattr(made, plane), getattr(expected, plane))
        finally:
            jit.set_threads(None)
