"""Every object is an immutable value that keeps its class: through methods, copies, pickles and files."""

import copy
import pickle

import attrs
import numpy as np
import pytest
from astropy.io import fits

import larun
from larun import flags as fl
from larun.errors import FileError, LarunWarning, OptionError, UnitMismatch
from larun.instruments.generic import Generic
from larun.model import registry
from larun.model.planes import freeze
from tests.model.cameras import Decorated, Plain, TwoAmplifiers

#: Every camera that larun brings, and those of the tests.
CAMERAS = (*(camera for camera in registry.cameras() if camera.__module__.startswith("larun.")), Generic)
IMAGES = (larun.Image, larun.SkyImage, larun.Frame, *CAMERAS, Plain, Decorated, TwoAmplifiers)
FRAMES = IMAGES[2:]
WITHOUT = ("bias", "dark", "flat")

HEADER = fits.Header(
    [
        ("INSTRUME", "test", "a comment"),
        ("OBJECT", "M 13"),
        ("FILTER", "V"),
        ("EXPTIME", 60.0),
        ("CTYPE1", "RA---TAN"),
        ("CTYPE2", "DEC--TAN"),
        ("CRVAL1", 250.0),
        ("CRVAL2", 36.0),
        ("CRPIX1", 30.0),
        ("CRPIX2", 25.0),
        ("CD1_1", -1e-4),
        ("CD1_2", 0.0),
        ("CD2_1", 0.0),
        ("CD2_2", 1e-4),
    ]
)


def stars(shape=(64, 72), seed=4):
    """Counts of a few stars on a noisy sky, ADU."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    image = np.full(shape, 400.0)
    for _ in range(6):
        x0, y0 = rng.uniform(10, shape[1] - 10), rng.uniform(10, shape[0] - 10)
        image += 900 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.5**2))
    return rng.poisson(image).astype(np.uint16)


def made(cls, **changes):
    """An object of a class with every plane filled, as if calibrated; built by the public door and ``_replace``."""
    rng = np.random.default_rng(9)
    counts = stars()
    flags = np.zeros(counts.shape, np.uint32)
    flags[3, 4] = fl.BAD
    image = cls.from_arrays(
        counts, variance=counts + 25.0, flags=flags, header=HEADER, gain=1.5, read_noise=5.0, saturation=60000.0
    )
    shared = (larun.Shared("ab" * 32, rng.random(counts.shape).astype(np.float32)),)
    return image._replace(shared=shared, noise_acf=np.array([[0, 0.1, 0], [0.1, 1, 0.1], [0, 0.1, 0]], np.float32))


def raw(cls):
    return cls.from_arrays(stars(), header=HEADER, gain=1.5, read_noise=5.0, saturation=60000.0)


def ready(cls):
    """A calibrated frame of a class."""
    return raw(cls).calibrate(without=WITHOUT)


def planes_of(image):
    found = {"data": image.data, "flags": image.flags}
    if image.variance is not None:
        found["variance"] = image.variance
    if image.noise_acf is not None:
        found["acf"] = image.noise_acf
    return found | {f"shared {i}": item.variance for i, item in enumerate(image.shared)}


def assert_read_only(image):
    for name, plane in planes_of(image).items():
        with pytest.raises(ValueError, match="read-only"):
            plane[0, 0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            plane.setflags(write=True)
        assert plane.base is not None, name
        assert not plane.base.flags.writeable, name
        with pytest.raises(ValueError, match="read-only"):
            plane.base[0, 0] = 1


def keep_everything(image):
    """A step of a user's own."""
    return image * 1.0


CHAINS = {
    "crop": lambda image: image.crop((5, 60), (4, 50)),
    "bin": lambda image: image.bin(2),
    "plus": lambda image: image + 1.0,
    "plus on the left": lambda image: 1.0 + image,
    "sum of two": lambda image: image + image,
    "minus": lambda image: image - image,
    "times": lambda image: 2.0 * image,
    "over": lambda image: image / 2,
    "over another": lambda image: image / (image + 1.0),
    "pipe": lambda image: image.pipe(keep_everything),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda image: pickle.loads(pickle.dumps(image)),
}


@pytest.mark.parametrize("cls", IMAGES)
@pytest.mark.parametrize("chain", CHAINS)
def test_acceptance_36_every_method_keeps_the_class_and_the_arrays_read_only(cls, chain):
    image = made(cls)
    result = CHAINS[chain](image)
    assert type(result) is cls
    assert result.noise_acf is not None
    assert_read_only(result)
    assert result is not image


@pytest.mark.parametrize("cls", FRAMES)
def test_acceptance_36_the_chain_keeps_the_class(cls):
    frame = raw(cls)
    assert_read_only(frame)
    for step in (lambda f: f.calibrate(without=WITHOUT), lambda f: f.clean(fwhm=3.5)):
        frame = step(frame)
        assert type(frame) is cls
        assert_read_only(frame)
    catalog = frame.detect(fwhm=3.5).photometer()
    assert type(catalog.image) is cls
    assert type(catalog) is larun.SourceCatalog


@pytest.mark.parametrize("cls", IMAGES)
def test_acceptance_36_write_then_read_is_identical(cls, tmp_path):
    image = made(cls)
    image.write(tmp_path / "one.fits")
    for reader in {cls, larun.Image}:
        back = reader.read(tmp_path / "one.fits")
        assert type(back) is cls
        assert back.identical(image)
        assert image.identical(back)
        assert back.provenance.id == image.provenance.id
        assert_read_only(back)
    calibrated = image.crop((1, 65), (0, 60)).bin(2)  # a line of more than one step
    calibrated.write(tmp_path / "two.fits")
    assert cls.read(tmp_path / "two.fits").identical(calibrated)


@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_acceptance_36_masters_survive_files_and_pickles(sample, kind, tmp_path):
    master = sample.masters.of(kind)[0]
    for made_again in (
        type(master).read(master.write(tmp_path / "master.fits")),
        larun.Image.read(tmp_path / "master.fits"),
        pickle.loads(pickle.dumps(master)),
        copy.deepcopy(master),
        copy.copy(master),
    ):
        assert type(made_again) is type(master)
        assert made_again.identical(master)
        assert_read_only(made_again)
    assert type(master.crop((0, 20), (0, 30))) is type(master)
    assert type(master * 2.0) is type(master)
    assert (master * 2.0).criteria == master.criteria


def test_acceptance_36_a_calibrated_frame_and_its_catalogue_survive_files(sample, tmp_path):
    back = larun.Frame.read(sample.clean.write(tmp_path / "frame.fits"))
    assert back.identical(sample.clean)
    assert len(back.shared) == 3
    assert back.raw_detector == sample.raw.detector.trimmed()
    for suffix in ("ecsv", "fits"):
        catalog = larun.SourceCatalog.read(sample.catalog.write(tmp_path / f"stars.{suffix}"))
        assert catalog.identical(sample.catalog)
        assert catalog.image is None
        assert catalog.attach(back).photometer().identical(sample.catalog.photometer())
    with pytest.raises(larun.errors.CatalogError, match="attach"):
        catalog.photometer()
    with pytest.raises(larun.errors.CatalogError, match="is not the image"):
        catalog.attach(sample.raw.crop((0, 50), (0, 50)))


def test_acceptance_36_catalogues_are_values(sample, tmp_path):
    catalog = sample.catalog
    for other in (pickle.loads(pickle.dumps(catalog)), copy.copy(catalog), copy.deepcopy(catalog)):
        assert other.identical(catalog)
    before = catalog["x"].copy()
    catalog["x"][0] = 0 * catalog["x"].unit
    catalog["flags"][:] = 99
    catalog.table["x"][0] = 0 * catalog["x"].unit
    catalog.table.meta["fwhm"] = 1.0
    catalog.meta["aperture_radii"].append(99.0)
    assert (catalog["x"] == before).all()
    assert not (catalog["flags"] == 99).all()
    assert catalog.meta["fwhm"] != 1.0
    assert 99.0 not in catalog.meta["aperture_radii"]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        catalog.image = None


@pytest.mark.parametrize("cls", IMAGES)
def test_fields_cannot_be_set(cls):
    image = made(cls)
    for name in ("data", "unit", "provenance", "detector"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(image, name, None)


def test_arrays_are_copied_at_the_door():
    counts, noise, flags = np.ones((4, 5), np.float32), np.ones((4, 5), np.float32), np.zeros((4, 5), np.uint32)
    frame = larun.Frame.from_arrays(counts, variance=noise, flags=flags)
    counts[:], noise[:], flags[:] = 7, 7, 7
    assert (frame.data == 1).all()
    assert (frame.variance == 1).all()
    assert (frame.flags == 0).all()
    assert counts.flags.writeable


def test_freeze_copies_what_somebody_else_could_write_to():
    owner = np.zeros((3, 3), np.float32)
    view = owner[:]
    frozen = freeze(view)
    owner[0, 0] = 5
    assert frozen[0, 0] == 0
    sly = owner[:]
    sly.setflags(write=False)  # read-only, but its owner is not
    frozen = freeze(sly)
    owner[0, 0] = 6
    assert frozen[0, 0] == 5
    again = freeze(frozen)
    assert again is frozen  # what is frozen already is shared, not copied


def test_header_wcs_and_criteria_are_copies(sample):
    frame = sample.frame
    frame.header["OBJECT"] = "changed"
    assert frame.header["OBJECT"] != "changed"
    wcs = frame.wcs
    wcs.wcs.crpix = [0, 0]
    assert frame.wcs.wcs.crpix[0] != 0
    frame.criteria["filter"] = "changed"
    assert frame.criteria["filter"] == "V"


def test_mappings_inside_values_cannot_be_changed(sample, bias):
    frame = sample.frame
    with pytest.raises(TypeError):
        frame.detector.sources["gain"] = "changed"
    with pytest.raises(TypeError):
        bias.criteria["filter"] = "changed"


def test_a_header_given_to_from_arrays_is_copied():
    header = HEADER.copy()
    frame = larun.Frame.from_arrays(np.ones((3, 3)), header=header)
    header["OBJECT"] = "changed"
    assert frame.header["OBJECT"] == "M 13"


def test_identical_sees_every_difference():
    image = made(larun.Frame)
    assert image.identical(image._replace())
    data, flags, variance = image.data.copy(), image.flags.copy(), image.variance.copy()
    data[1, 1] = np.nextafter(data[1, 1], np.float32(np.inf))
    flags[1, 1] |= fl.COSMIC
    variance[1, 1] += 1
    header, wcs = image.header, image._wcs_header.copy()
    header["OBJECT"] = "M 14"
    wcs["CRVAL1"] = 251.0
    other = {
        "data": data,
        "flags": flags,
        "variance": variance,
        "header": header,
        "wcs_header": wcs,
        "unit": "electron",
        "shared": (),
        "noise_acf": None,
        "detector": image.detector.with_values(gain=9.0),
        "provenance": (image + 1.0).provenance,
    }
    for name, value in other.items():
        assert not image.identical(image._replace(**{name: value})), name
    assert not image.identical(made(Plain))
    assert not image.identical(None)
    zero = larun.Image.from_arrays(np.zeros((2, 2)))
    assert not zero.identical(zero._replace(data=-zero.data))  # -0.0 is another value


def test_shared_noise_of_equal_size_but_other_bits_is_not_identical():
    image = made(larun.Frame)
    other = (larun.Shared(image.shared[0].master, image.shared[0].variance + 1),)
    assert not image.identical(image._replace(shared=other))
    renamed = (larun.Shared("cd" * 32, image.shared[0].variance),)
    assert not image.identical(image._replace(shared=renamed))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flags": np.zeros((2, 2), np.uint32)}, "flags"),
        ({"variance": np.zeros((64, 72), np.float64)}, "float64"),
        ({"shared": (larun.Shared("a", np.zeros((2, 2), np.float32)),)}, "shared"),
    ],
)
def test_planes_that_do_not_fit_raise(changes, message):
    with pytest.raises(OptionError, match=message):
        made(larun.Frame)._replace(**changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": np.ones(5)}, "2-D"),
        ({"data": np.ones((2, 2), complex)}, "real"),
        ({"data": np.array([["a", "b"]])}, "real"),
        ({"data": np.ones((0, 3))}, "2-D"),
        ({"variance": np.ones((3, 3))}, "variance"),
        ({"variance": -np.ones((2, 2))}, "negative"),
        ({"flags": np.zeros((3, 3))}, "flags"),
        ({"unit": "parsnip"}, "parsnip"),
        ({"gain": "much"}, "number"),
        ({"gain": -1.0}, "positive"),
        ({"volume": 11}, "volume"),
    ],
)
def test_bad_arrays_raise(arguments, message):
    with pytest.raises(OptionError, match=message):
        larun.Frame.from_arrays(**({"data": np.ones((2, 2))} | arguments))


def test_from_arrays_marks_what_is_not_finite():
    frame = larun.Frame.from_arrays([[1.0, np.nan], [np.inf, 2.0]])
    assert ((frame.flags & fl.NO_DATA) != 0).tolist() == [[False, True], [True, False]]
    masked = larun.Frame.from_arrays(np.ma.masked_equal([[1, 2], [3, 2]], 2))
    assert ((masked.flags & fl.NO_DATA) != 0).tolist() == [[False, True], [False, True]]


def test_from_arrays_takes_quantities_and_big_endian():
    from astropy import units as u

    frame = larun.Frame.from_arrays(np.ones((2, 2), ">f8") * u.electron)
    assert frame.unit == "electron"
    assert frame.data.dtype == np.dtype("=f4")


def test_units_that_do_not_add_raise():
    one, two = larun.Image.from_arrays(np.ones((2, 2))), larun.Image.from_arrays(np.ones((2, 2)), unit="electron")
    for wrong in (lambda: one + two, lambda: one - two):
        with pytest.raises(UnitMismatch, match="adu and electron"):
            wrong()
    with pytest.raises(OptionError, match="do not combine"):
        one + larun.Image.from_arrays(np.ones((3, 3)))
    assert (one / one).unit == ""
    assert (one * 2).unit == "adu"
    assert (one * (two / two)).unit == "adu"


def test_ccddata_goes_there_and_back(sample):
    ccd = sample.frame.to_ccddata()
    assert np.array_equal(ccd.data, sample.frame.data)
    assert np.array_equal(ccd.uncertainty.array, sample.frame.uncertainty)
    assert np.array_equal(ccd.mask, sample.frame.unusable)
    assert str(ccd.unit) == "electron"
    ccd.data[0, 0] = -5  # a copy: the frame does not change
    assert sample.frame.data[0, 0] != -5
    back = type(sample.frame).from_ccddata(sample.frame.to_ccddata())
    assert type(back) is type(sample.frame)
    assert np.array_equal(back.data, sample.frame.data)
    np.testing.assert_allclose(back.variance, sample.frame.uncertainty**2, rtol=1e-6)
    assert np.array_equal(back.unusable, sample.frame.unusable)
    assert back.unit == "electron"
    assert back.header["OBJECT"] == sample.frame.header["OBJECT"]
    one, two = back.wcs.wcs_pix2world([[3, 80]], 0), sample.frame.wcs.wcs_pix2world([[3, 80]], 0)
    np.testing.assert_allclose(one, two, atol=1e-10)
    with pytest.raises(OptionError, match="unit"):
        larun.Image.from_ccddata(np.ones((2, 2)))


def test_a_product_read_as_another_class_says_what_it_is(sample, bias, tmp_path):
    bias.write(tmp_path / "bias.fits")
    with pytest.raises(FileError, match="holds a MasterBias, not a Frame"):
        larun.Frame.read(tmp_path / "bias.fits")
    with pytest.raises(FileError, match="raw frame"):
        larun.MasterBias.read(sample.raw.provenance.root.location.rpartition("[")[0])
    with pytest.raises(OptionError, match="only be given for raw"):
        larun.Image.read(tmp_path / "bias.fits", gain=2.0)


def test_a_product_of_an_unknown_class_is_read_as_generic(tmp_path):
    made(Plain).write(tmp_path / "one.fits")
    written = (tmp_path / "one.fits").read_bytes()
    from larun.io.product import read_product, write_product

    parts = read_product(tmp_path / "one.fits")._replace(class_name="no.such.module:Camera")
    write_product(tmp_path / "other.fits", parts)
    with pytest.warns(LarunWarning, match=r"no.such.module:Camera.*Generic"):
        frame = larun.Frame.read(tmp_path / "other.fits")
    assert type(frame) is Generic
    assert np.array_equal(frame.data, made(Plain).data)
    assert written == (tmp_path / "one.fits").read_bytes()


def test_what_is_done_to_a_copy_of_the_header_leaves_the_image_alone(sample):
    before = sample.clean.header.tostring()
    copy = sample.clean.header
    for keyword in list(copy):
        copy.comments[keyword] = "changed"
    copy["CRPIX1"] = -1.0
    assert sample.clean.header.tostring() == before
