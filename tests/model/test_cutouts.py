"""int8 stamps of sources: what they hold, that magnitudes survive, and that they travel and are made again."""

import ctypes
import pickle
import shutil
import subprocess

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun import flags as fl
from larun.errors import CatalogError, CorruptProduct, FileError, OptionError
from tests.algorithms.pair_fields import pair

SHAPE = (200, 220)


def raw(path, data):
    header = fits.Header({"OBJECT": "field", "GAIN": 1.0, "RDNOISE": 6.0, "EXPTIME": 60.0, "IMAGETYP": "object"})
    fits.PrimaryHDU(np.clip(np.rint(data), 0, 65535).astype(np.uint16), header).writeto(path)
    return larun.Frame.read(path).calibrate(without=("bias", "dark", "flat"))


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    field = pair(SHAPE, seed=4, stars=150, change=0.0)
    new = np.random.default_rng(5).poisson(field.psf.draw(SHAPE, [100.3], [80.2], [9000.0]))
    return folder, raw(folder / "science.fits", field.science + new), raw(folder / "reference.fits", field.reference)


@pytest.fixture(scope="module")
def difference(night):
    return night[1].subtract(night[2], options=larun.SubtractOptions(order=0))


@pytest.fixture(scope="module")
def stamps(difference):
    return difference.detect().cutouts(21)


def test_three_planes_of_a_difference(night, difference, stamps):
    assert stamps.planes == ("science", "reference", "difference")
    assert stamps.pixels.shape == (len(stamps), 21, 21, 3)
    assert stamps.pixels.dtype == np.int8
    assert (stamps.scale, stamps.zero_point, stamps.size) == (20 / 255, 0, 21)
    assert not stamps.pixels.flags.writeable
    best = int(np.argmin(np.hypot(stamps["x"].value - 100.3, stamps["y"].value - 80.2)))
    px, py = round(stamps["x"].value[best]), round(stamps["y"].value[best])
    window = np.s_[py - 10 : py + 11, px - 10 : px + 11]
    for name, image in (("science", night[1]), ("reference", night[2]), ("difference", difference)):
        sigma = float(stamps[f"sigma_{name}"][best].value)
        middle = float(stamps[f"median_{name}"][best].value)
        real = np.arcsinh((image.data[window] - middle) / sigma)
        assert np.abs(stamps.real(name)[best] - real).max() <= stamps.scale / 2 * 1.001
        assert middle == pytest.approx(np.median(image.data[window]))
    assert [parent.role for parent in stamps.provenance.parents] == ["self", "science", "reference", "difference"]


def test_magnitudes_survive(difference, stamps):
    """The light of the new star, from the 8-bit stamp, is that of the pixels within some permille."""
    best = int(np.argmin(np.hypot(stamps["x"].value - 100.3, stamps["y"].value - 80.2)))
    px, py = round(stamps["x"].value[best]), round(stamps["y"].value[best])
    there = difference.data[py - 10 : py + 11, px - 10 : px + 11]
    again = stamps.values("difference")[best]
    y, x = np.mgrid[-10:11, -10:11]
    core = np.hypot(x, y) < 7
    assert again[core].sum() == pytest.approx(there[core].sum(), rel=0.01)
    assert abs(2.5 * np.log10(again[core].sum() / there[core].sum())) < 0.01
    known = np.abs(stamps.real("difference")[best]) < 10
    step = (
        stamps.scale / 2 * np.sqrt((there - np.median(there)) ** 2 + float(stamps["sigma_difference"][best].value) ** 2)
    )
    assert np.all(np.abs(again - there)[known] <= 1.05 * step[known] + 1e-3)


def test_acceptance_38_edges_bad_pixels_and_saturated_ones(night):
    image = night[1]
    flags = image.flags.copy()
    flags[50, 52], flags[48, 48] = fl.BAD, fl.SATURATED
    flags[100:160, 100:160] = fl.NO_DATA
    data = image.data.copy()
    data[50, 52] = 1e9
    data[48, 48] = 6e4
    marked = image.with_planes(data=data, flags=flags)
    made = marked.cutouts([[50.0, 50.0], [0.0, 0.0], [130.0, 130.0], [-500.0, 9.0]], 21)
    assert made["known_image"].tolist() == [440 / 441, 121 / 441, 0.0, 0.0]
    assert made.pixels[0, 10, 12, 0] == made.zero_point
    assert made.values()[0, 8, 8] == pytest.approx(6e4, rel=0.04)
    assert np.all(made.pixels[1, :10, :, 0] == made.zero_point)
    assert np.all(made.pixels[1, :, :10, 0] == made.zero_point)
    assert np.ptp(made.pixels[1, 10:, 10:, 0]) > 10
    for empty in (2, 3):
        assert np.all(made.pixels[empty] == made.zero_point)
        assert (made["median_image"][empty].value, made["sigma_image"][empty].value) == (0.0, 1.0)
    assert np.all(np.isfinite(made.values()))


def test_resampled_stamps_keep_the_light(night):
    field = night[1]
    sky = field.background().level
    places = field.detect().select("snr > 50 and flags == 0").table[:10]
    made = field.cutouts(places, 32, extent=24.0)
    y, x = np.mgrid[:32, :32]
    core = np.hypot(x - 15.5, y - 15.5) < 9 * 32 / 24
    for number, row in enumerate(places):
        plane = (made.values()[number] - sky[round(row["y"].value), round(row["x"].value)]) * (24 / 32) ** 2
        circle = field.photometer([[row["x"].value, row["y"].value]], (9.0,), unit="pixel", sky="background")
        assert plane[core].sum() == pytest.approx(circle["aperture_flux_1"][0].value, rel=0.03)


def test_they_travel(tmp_path, stamps):
    again = larun.Cutouts.read(stamps.write(tmp_path / "stamps.fits"))
    assert again.identical(stamps)
    assert pickle.loads(pickle.dumps(stamps)).identical(stamps)
    with fits.open(tmp_path / "stamps.fits") as file:  # another program sees the same numbers
        assert np.array_equal(file["STAMPS"].data, stamps.pixels)
    with pytest.raises(FileError, match="exists"):
        stamps.write(tmp_path / "stamps.fits")
    with pytest.raises(FileError, match="holds no stamps"):
        larun.Cutouts.read(_catalog(stamps).write(tmp_path / "c.fits"))
    body = bytearray((tmp_path / "stamps.fits").read_bytes())
    body[body.find(b"XTENSION= 'IMAGE") + 4000] ^= 1
    (tmp_path / "bad.fits").write_bytes(bytes(body))
    with pytest.raises((CorruptProduct, FileError)):
        larun.Cutouts.read(tmp_path / "bad.fits")


def _catalog(stamps):
    return larun.SourceCatalog.from_table(stamps.table["x", "y"])


def test_numpy_reads_them_without_larun(tmp_path, stamps):
    path = stamps.write(tmp_path / "stamps.npz")
    with np.load(path, allow_pickle=False) as found:
        real = found["scale"] * (found["pixels"].astype(float) - found["zero_point"])
        assert np.array_equal(real[..., 2].astype(np.float32), stamps.real("difference"))
        assert found["planes"].tolist() == list(stamps.planes)
        back = found["column_median_science"] + found["column_sigma_science"] * np.sinh(real[..., 0]).T
        assert np.allclose(back.T, stamps.values("science"), rtol=1e-5, atol=1e-2)
    assert stamps.write(path, overwrite=True) == path
    np.savez(tmp_path / "own.npz", a=1)
    with pytest.raises(FileError, match="not a product of larun"):
        stamps.write(tmp_path / "own.npz", overwrite=True)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_c_reads_them(tmp_path, stamps):
    path = stamps.write(tmp_path / "9 my-stamps; #.h")
    code = (
        f'#include "{path.name}"\nint at(int n, int y, int x, int p) {{ return stamps_9_my_stamps___[n][y][x][p]; }}\n'
    )
    code += "float scale(void) { return STAMPS_9_MY_STAMPS____SCALE; }\n"
    (tmp_path / "a.c").write_text(code)
    options = ["-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *options, "-o", tmp_path / "a.so", tmp_path / "a.c"], check=True, capture_output=True)
    library = ctypes.CDLL(str(tmp_path / "a.so"))
    library.scale.restype = ctypes.c_float
    assert library.scale() == pytest.approx(stamps.scale)
    for n, y, x, p in ((0, 0, 0, 0), (len(stamps) - 1, 20, 19, 2), (0, 10, 10, 2)):
        assert library.at(n, y, x, p) == stamps.pixels[n, y, x, p]


def test_they_are_made_again_bit_for_bit(tmp_path, night, stamps):
    path = stamps.write(tmp_path / "stamps.fits")
    again = larun.replay(path, night[0])
    assert again.equal, str(again)
    resampled = night[1].detect().cutouts(16, planes={"old": night[2], "new": night[1]}, extent=30.0, clip=(-3, 8))
    assert larun.replay(resampled, night[0]).equal
    changed = resampled._replace(pixels=-resampled.pixels)
    assert [item.what for item in larun.replay(changed, night[0]).differences] == ["pixels"]


def test_images_that_are_not_at_hand_must_be_given(tmp_path, night, difference):
    assert difference.science is night[1]
    read = larun.DifferenceImage.read(difference.write(tmp_path / "d.fits"))
    assert read.identical(difference)
    assert read.science is None is read.reference
    found = read.detect()
    with pytest.raises(CatalogError, match=r"science image .* is not at hand"):
        found.cutouts(21)
    images = {"science": night[1], "reference": night[2], "difference": read}
    assert np.array_equal(found.cutouts(21, planes=images).pixels, difference.detect().cutouts(21).pixels)
    cropped = difference.crop((10, 200), (10, 200))
    assert cropped.science is None
    assert cropped.detect().cutouts(9, planes=["difference"]).planes == ("difference",)
    assert pickle.loads(pickle.dumps(difference)).science is None


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"size": 0}, "size = 0"),
        ({"size": 2.5}, "size = 2.5"),
        ({"extent": 0.5}, "extent = 0.5"),
        ({"extent": float("nan")}, "extent = nan"),
        ({"clip": (1.0, 2.0)}, "0 must lie between"),
        ({"planes": ["science"]}, "'science' is not one of image"),
        ({"planes": []}, "one at least"),
    ],
)
def test_options_that_make_no_sense(night, options, what):
    with pytest.raises(OptionError, match=what):
        night[1].cutouts([[20.0, 20.0]], **options)


def test_planes_must_have_one_shape_and_plain_names(night):
    other = night[2].crop((0, 100), (0, 100))
    with pytest.raises(OptionError, match="same pixels"):
        night[1].cutouts([[20.0, 20.0]], planes={"a": night[1], "b": other})
    with pytest.raises(OptionError, match="plain word"):
        night[1].cutouts([[20.0, 20.0]], planes={"a; rm": night[1]})


def test_no_sources_are_no_stamps(tmp_path, night):
    none = night[1].detect().select("snr > 1e9").cutouts(11)
    assert none.pixels.shape == (0, 11, 11, 1)
    none.write(tmp_path / "none.npz")
    with pytest.raises(OptionError, match="there are no stamps"):
        none.write(tmp_path / "none.fits")


def test_a_file_of_stamps_is_known_for_what_it_is(stamps, tmp_path):
    from larun.report.inspect import describe
    from tests.cli.conftest import run_larun

    path = stamps.write(tmp_path / "stamps.fits")
    assert describe(path)["class"].endswith(":Cutouts")
    assert str(stamps) == repr(stamps)
    assert "\n" not in str(stamps)
    ended = run_larun("plot", path)
    assert ended.code == 2
    assert "holds Cutouts" in ended.err
