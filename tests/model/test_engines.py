"""Every engine behind ``detect`` gives the same table; functions of one's own are engines too; all is recorded."""

import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

import larun
from larun import flags as fl
from larun.algorithms.cosmic import lacosmic
from larun.algorithms.engine_dao import DaoOptions
from larun.algorithms.engine_sep import SepOptions
from larun.algorithms.engines import Search
from larun.errors import OptionError
from larun.model.measure.detecting import METHODS
from larun.provenance import predict
from tests.algorithms.star_fields import field
from tests.conftest import real_data

ENGINES = ("dao", "sep", "segmentation")


@pytest.fixture(scope="module")
def stars():
    """Two hundred stars of FWHM 3 brighter than 1500 electrons in 0.36 Mpx."""
    return field(np.random.default_rng(21), 600, 200, 3.0, faintest=1500.0)


@pytest.fixture(scope="module")
def frame(stars):
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0}
    header |= {"CRPIX1": 300.0, "CRPIX2": 300.0, "CDELT1": -1e-4, "CDELT2": 1e-4}
    return larun.Frame.from_arrays(stars.data, variance=stars.variance, unit="electron", header=header)


@pytest.fixture(scope="module")
def catalogs(frame):
    return {method: frame.detect(method=method) for method in METHODS}


def test_all_engines_fill_the_same_columns(catalogs):
    def form(catalog):
        return [(name, catalog[name].dtype, str(getattr(catalog[name], "unit", None))) for name in catalog.columns]

    wanted = form(catalogs["matched"])
    assert len(wanted) == 15
    for method, catalog in catalogs.items():
        assert form(catalog) == wanted, method
        assert list(catalog["id"]) == list(range(1, len(catalog) + 1))
        assert (np.diff(catalog["snr"]) <= 0).all()
        assert (catalog["snr"] >= 5).all()
        assert (catalog["flux_error"] > 0).all()
        assert np.isfinite(catalog["x_error"].value).all()
        assert catalog.meta.keys() == catalogs["matched"].meta.keys()
        table = catalog.table
        assert all(table[name].info.description for name in catalog.columns)
    table = catalogs["sep"].table
    assert "isophotal" in table["flux"].info.description


#: Completeness and purity that each engine reaches at least in the fixture's field (blends of random places included).
REACHED = {
    "matched": (0.94, 0.99),
    "peaks": (0.94, 0.98),
    "dao": (0.88, 0.99),
    "sep": (0.85, 0.98),
    "segmentation": (0.94, 0.98),
}


@pytest.mark.parametrize("method", METHODS)
def test_completeness_and_purity_on_the_same_field(catalogs, stars, method, record_property):
    from scipy.spatial import KDTree

    found = np.column_stack([catalogs[method]["x"].value, catalogs[method]["y"].value])
    true = np.column_stack([stars.x, stars.y])
    complete = float((KDTree(found).query(true)[0] < 2).mean())
    pure = float((KDTree(true).query(found)[0] < 2).mean())
    record_property("completeness", float(complete))
    record_property("purity", float(pure))
    print(f"{method}: completeness {complete:.3f}, purity {pure:.3f}, {len(found)} sources")  # pytest -rP shows it
    assert complete >= REACHED[method][0]
    assert pure >= REACHED[method][1]


@pytest.mark.parametrize("method", METHODS)
def test_every_engine_feeds_photometry_and_goes_through_files(catalogs, tmp_path, method):
    measured = catalogs[method].photometer((3.0,), unit="pixel")
    assert np.isfinite(measured["aperture_flux_1"].value).mean() > 0.95
    back = larun.SourceCatalog.read(measured.write(tmp_path / "c.ecsv"))
    assert back.identical(measured)


@pytest.mark.filterwarnings("ignore:.*too few stars to measure their size")
@pytest.mark.parametrize("method", METHODS)
def test_images_with_little_in_them(method):
    rng = np.random.default_rng(5)
    noise = rng.normal(100, 5, (64, 80))
    empty = larun.Frame.from_arrays(noise, variance=np.full(noise.shape, 25.0), unit="electron")
    found = empty.detect(threshold=7.0, method=method)
    assert len(found) == 0
    assert len(found.columns) == 13
    masked = larun.Frame.from_arrays(noise, flags=np.full(noise.shape, fl.BAD), unit="electron")
    with pytest.raises(OptionError, match="usable pixels: check the flags"):
        masked.detect(method=method)
    tiny = larun.Frame.from_arrays(noise[:5, :6], variance=np.full((5, 6), 25.0), unit="electron")
    if method in ENGINES:
        with pytest.raises(OptionError, match=r"at least 8 × 8 pixels, not \(5, 6\)"):
            tiny.detect(method=method, fwhm=2.0)
    else:
        assert len(tiny.detect(threshold=7.0, method=method, fwhm=2.0)) == 0
    flat = larun.Frame.from_arrays(np.full((40, 50), 7.0), unit="electron")  # no noise at all
    assert len(flat.detect(method=method, fwhm=2.0)) == 0
    small = larun.Frame.from_arrays(noise[:9, :8], variance=np.full((9, 8), 25.0), unit="electron")
    assert len(small.detect(threshold=8.0, method=method, fwhm=2.0)) <= 1


@pytest.mark.parametrize("method", METHODS)
def test_without_a_variance_plane_the_noise_is_that_of_the_pixels(stars, catalogs, method):
    bare = larun.Frame.from_arrays(stars.data, unit="electron").detect(method=method)
    assert len(bare) == pytest.approx(len(catalogs[method]), rel=0.05)
    assert (bare["flux_error"].value > 0).all()


def test_masked_areas_hold_no_source(stars):
    flags = np.zeros(stars.data.shape, np.uint32)
    flags[:, 300:330] = fl.BAD
    data = stars.data.copy()
    data[:, 300:330] = 65535
    data[400:420] = np.nan
    frame = larun.Frame.from_arrays(data, variance=stars.variance, flags=flags, unit="electron")
    for method in METHODS:
        catalog = frame.detect(method=method)
        x, y = catalog["x"].value, catalog["y"].value
        assert len(catalog) > 100
        assert not ((x > 302) & (x < 327)).any(), method
        assert not ((y > 402) & (y < 417)).any(), method


@pytest.mark.parametrize("method", ["matched", "peaks", "sep", "segmentation"])
def test_a_star_is_found_where_most_pixels_are_unusable(method):
    """Two of five pixels are usable; a kernel of sum zero, as DAOFIND's, sees nothing sure there."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:200, :200]
    data = rng.normal(1000, 10, (200, 200)) + 2000 * np.exp(-((x - 100) ** 2 + (y - 100) ** 2) / 4)
    flags = np.where(rng.random(data.shape) < 0.4, 0, fl.BAD)
    frame = larun.Frame.from_arrays(data, flags=flags, variance=np.full(data.shape, 100.0), unit="electron")
    [found] = frame.detect(method=method, fwhm=3.0, threshold=6.0).table
    assert np.hypot(found["x"].value - 100, found["y"].value - 100) < 1.5
    assert 50 < found["snr"] < 600


def test_parameters_of_an_engine_are_recorded_complete_however_they_are_given(frame, catalogs):
    default = catalogs["sep"].provenance.step.parameters
    assert default["options"]["min_area"] == 5
    assert default["options"]["type"] == "SepOptions"
    one = frame.detect(method="sep", options={"min_area": 3})
    two = frame.detect(method="sep", options=SepOptions(min_area=3))
    assert one.identical(two)
    assert one.provenance.id != catalogs["sep"].provenance.id
    assert frame.detect(method="sep", options={}).provenance.id == catalogs["sep"].provenance.id
    step = predict("detect", frame, method="sep", options={"min_area": 3})
    assert step.parameters == one.provenance.step.parameters


def test_records_of_the_engines_that_have_no_options_are_as_ever(catalogs):
    assert set(catalogs["matched"].provenance.step.parameters) == {"threshold", "method", "fwhm", "mesh"}
    assert catalogs["matched"].provenance.step.version == 5


def test_options_that_do_not_belong(frame):
    for arguments, says in (
        ({"options": {"min_area": 3}}, "'matched' has none"),
        ({"method": "dao", "options": {"min_area": 3}}, "dao has no min_area; it has sharpness"),
        ({"method": "dao", "options": SepOptions()}, "takes a DaoOptions"),
        ({"method": "sex"}, "'segmentation', or a function"),
        ({"method": brightest, "options": DaoOptions()}, "give a mapping"),
        ({"method": "sep", "threshold": 0.1}, "threshold"),
    ):
        with pytest.raises(OptionError, match=says):
            frame.detect(fwhm=3.0, **arguments)


def brightest(search: Search, count: int = 3):
    """The brightest pixels: an engine nobody should use."""
    order = np.argsort(-search.signal, axis=None)[:count]
    row, column = np.unravel_index(order, search.data.shape)
    return {"x": column, "y": row, "flux": search.signal[row, column]}


def test_a_function_is_an_engine(frame, catalogs):
    found = frame.detect(method=brightest)
    assert len(found) == 3
    assert found.columns == catalogs["matched"].columns
    parameters = found.provenance.step.parameters
    assert parameters["method"]["function"] == f"{__name__}:brightest"
    assert len(parameters["method"]["source"]) == 64
    assert "options" not in parameters
    more = frame.detect(method=brightest, options={"count": 5})
    assert len(more) == 5
    assert more.provenance.step.parameters["options"] == {"count": 5}
    assert more.provenance.id != found.provenance.id
    assert predict("detect", frame, method=brightest).parameters == parameters
    assert more.photometer((3.0,), unit="pixel")["aperture_flux_1"].value[0] > 0


def above_eight(data, variance, unusable, saturated, *, options):
    return ~unusable & (data > np.median(data) + 8 * options.sigma * np.sqrt(variance))


@pytest.mark.filterwarnings("ignore:.*too few stars to measure their size")
def test_a_function_cleans(rng):
    data = rng.normal(100, 5, (50, 60)).astype(np.float32)
    data[20, 30:34] = 5000
    frame = larun.Frame.from_arrays(data, variance=np.full(data.shape, 25.0), unit="electron")
    clean = frame.clean(engine=above_eight, sigma=5.0, fwhm=3.0)
    assert ((clean.flags & fl.COSMIC) != 0).sum() == 4
    assert clean.data[20, 30:34].max() < 130
    assert clean.provenance.step.parameters["engine"]["function"] == f"{__name__}:above_eight"
    own, same = frame.clean(fwhm=3.0), frame.clean(engine=lacosmic, fwhm=3.0)
    np.testing.assert_array_equal(own.data, same.data)
    for wrong in (lambda *a, options: None, lambda *a, options: np.zeros((3, 3), bool), lambda *a, options: a[0]):
        with pytest.raises(OptionError, match=r"lambda.*must be a mask"):
            frame.clean(engine=wrong, fwhm=3.0)


SCRIPT = """
    import sys, warnings
    import numpy as np
    import larun

    def finder(search, least=8.0):
        row, column = np.nonzero(search.signal > least * search.noise)
        keep = [k for k in range(len(row)) if search.signal[row[k], column[k]] ==
                search.signal[max(row[k] - 3, 0):row[k] + 4, max(column[k] - 3, 0):column[k] + 4].max()]
        return np.column_stack([column[keep], row[keep]])

    def no_rays(data, variance, unusable, saturated, *, options):
        return np.zeros(data.shape, bool)

    if __name__ == "__main__":
        warnings.simplefilter("ignore")
        recipe = larun.Recipe(
            detect={"method": finder, "options": {"least": 9.0}}, clean={"engine": no_rays, "fwhm": 3.0}
        )
        night = larun.Night(sys.argv[1])
        for processes in (2, 1):
            rows = night.reduce(sys.argv[2], recipe=recipe, processes=processes).rows
            print(*[row.status for row in rows if row.kind == "science"])
        try:
            night.reduce(sys.argv[2], recipe=larun.Recipe(detect={"method": lambda search: []}), processes=2)
        except larun.errors.OptionError as error:
            print("refused" if "top level" in str(error) else error)
"""


def test_functions_of_a_script_reach_worker_processes_and_are_known_again(sample, tmp_path):
    """What two processes made, one finds done: the record does not depend on who computed it."""
    script = tmp_path / "own.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    command = [sys.executable, str(script), str(sample.folder), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    count = len(sample.paths("object"))
    assert lines == [" ".join(["done"] * count), " ".join(["skipped"] * count), "refused"]


def nickel():
    folder = real_data("nickel")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", larun.errors.LarunWarning)
        masters = larun.Night(folder).masters()
        return larun.Frame.read(folder / "d1059.fits.fz").calibrate(masters, without=("dark",))


def kb13475():
    [path] = sorted(real_data("kb13475").glob("AKB13475I0100*"))
    raw = larun.Frame.read(path)
    return larun.Frame.from_arrays(raw.data, variance=np.maximum(raw.data, 1) / 1.9 + (5 / 1.9) ** 2)


def sdss():
    path = sorted(real_data("sdss").glob("fpC*r*.fit.gz"))[0]
    raw = larun.Frame.read(path)
    data = raw.data[:, :1024] - 1000
    return larun.Frame.from_arrays(data, gain=4.7, read_noise=5.0)


@pytest.fixture(scope="module", params=[nickel, kb13475, sdss], ids=lambda make: make.__name__)
def real(request):
    frame = request.param()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", larun.errors.LarunWarning)
        return frame, frame.background(), float(frame.star_size().fwhm)


def sorted_by_place(*columns):
    made = np.array(columns, dtype=np.float64)
    return made[:, np.lexsort((made[0], made[1]))]


def test_sep_on_real_frames_finds_what_sep_finds(real):
    import sep

    frame, sky, fwhm = real
    mask = ((frame.flags & fl.UNUSABLE & ~fl.SATURATED) != 0) | ~np.isfinite(frame.data)
    data = np.where(mask, 0, frame.data).astype(np.float32)
    sep.set_extract_pixstack(5_000_000)
    try:
        signal = np.where(mask, 0, data - sep.Background(data, mask=mask).back()).astype(np.float32)
        noise = np.sqrt(sky.variance).astype(np.float32)
        gain = frame.detector.amplifiers[0].gain or 1.0
        direct = sep.extract(signal, 5.0, err=noise, mask=mask, gain=gain)
    finally:
        sep.set_extract_pixstack(300_000)
    found = frame.detect(method="sep", fwhm=fwhm)
    assert len(found) == len(direct) > 100
    names = ("x", "y", "flux", "peak")
    np.testing.assert_allclose(
        sorted_by_place(*(np.asarray(getattr(found[name], "value", found[name])) for name in names)),
        sorted_by_place(*(direct[name] for name in names)),
        rtol=1e-6,
    )
    np.testing.assert_allclose(np.sort(found["x_error"].value), np.sort(np.sqrt(direct["errx2"])), rtol=1e-6)


def test_dao_on_real_frames_finds_what_photutils_finds(real):
    from photutils.background import Background2D
    from photutils.detection import DAOStarFinder

    frame, sky, fwhm = real
    mask = ((frame.flags & fl.UNUSABLE & ~fl.SATURATED) != 0) | ~np.isfinite(frame.data)
    data = np.where(mask, 0, frame.data)
    level = Background2D(data, 64, mask=mask, exclude_percentile=85).background
    signal = np.where(mask, 0, data - level.astype(np.float32))
    direct = DAOStarFinder(5.0 * np.sqrt(sky.variance), fwhm, min_separation=fwhm).find_stars(signal, mask=mask)
    ny, nx = frame.shape
    inside = (direct["x_centroid"] > -0.5) & (direct["x_centroid"] < nx - 0.5)
    inside &= (direct["y_centroid"] > -0.5) & (direct["y_centroid"] < ny - 0.5)
    found = frame.detect(method="dao", fwhm=fwhm)
    assert len(found) == len(direct) > 100
    assert inside.mean() > 0.98
    x, y = found["x"].value, found["y"].value
    near = [int(np.hypot(x - a, y - b).argmin()) for a, b in direct[inside].iterrows("x_centroid", "y_centroid")]
    np.testing.assert_allclose(x[near], direct["x_centroid"][inside], atol=1e-4)
    np.testing.assert_allclose(y[near], direct["y_centroid"][inside], atol=1e-4)
    np.testing.assert_allclose(found["flux"].value[near], direct["flux"][inside], rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found["peak"].value[near], direct["peak"][inside], rtol=1e-4, atol=1e-3)
