"""A night with other options: just what was predicted is made again, and it is what a full reduction makes."""

import functools
import warnings
from collections import Counter

import attrs
import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.errors import FileError, LarunWarning, OptionError, RecipeError
from larun.model.catalog import SourceCatalog
from larun.model.frame import Frame
from larun.model.image import Image
from larun.model.masters import MasterBias, MasterDark, MasterFlat
from larun.model.replay.planning import recipe_of
from larun.model.sky import SkyImage
from larun.provenance import OPERATIONS
from larun.simulate import Camera, NightOptions, simulate_night

pytestmark = pytest.mark.filterwarnings("ignore::larun.errors.LarunWarning")

OPTIONS = NightOptions(
    camera=Camera(shape=(112, 120), dead_columns=(40,), overscan=24, filters=("V",)),
    biases=3,
    darks=3,
    flats=3,
    frames=1,
    dark_exposures=(60.0,),
    star_density=1800.0,
    cosmic_rate=4.0,
    zero_points=(23.5,),
    sky=(8.0,),
)
MADE_BY = {
    "master_bias": (MasterBias, "combine", "bias"),
    "master_dark": (MasterDark, "combine", "dark"),
    "master_flat": (MasterFlat, "combine", "flat"),
    "calibrate": (Frame, "calibrate", "frame"),
    "clean": (Frame, "clean", "frame"),
    "detect": (SkyImage, "detect", "catalog"),
    "photometer": (SourceCatalog, "photometer", "catalog"),
}
ALL = {"bias": 1, "dark": 1, "flat": 1, "frame": 1, "catalog": 1}
ONLY_SCIENCE = {"frame": 1, "catalog": 1}

#: An option, and how many products of each kind have another record by it.
PARAMETERS = [
    ({"keywords": {"GAIN": 1.7}}, ALL),
    ({"keywords": {"OBSERVER": "somebody"}}, ALL),
    ({"overscan": {"method": "none"}}, ALL),
    ({"overscan": {"method": "polynomial"}}, ALL),
    ({"overscan": {"skip": 2}}, ALL),
    ({"bias": {"method": "mean"}}, ALL),
    ({"bias": {"sigma": 5.5}}, ALL),
    ({"dark": {"method": "median"}}, {**ALL, "bias": 0}),
    ({"dark": {"clip": "mad"}}, {**ALL, "bias": 0}),
    ({"flat": {"method": "median"}}, {**ONLY_SCIENCE, "flat": 1}),
    ({"flat": {"sigma": 7.0}}, {**ONLY_SCIENCE, "flat": 1}),
    ({"calibrate": {"without": ("flat",)}}, ONLY_SCIENCE),
    ({"calibrate": {"without": ("dark",)}}, {**ONLY_SCIENCE, "flat": 1}),
    ({"clean": {"sigma": 12.0}}, ONLY_SCIENCE),
    ({"clean": {"sigma": 4.5001}}, ONLY_SCIENCE),
    ({"clean": {"engine": "median"}}, ONLY_SCIENCE),
    ({"clean": {"replace": False}}, ONLY_SCIENCE),
    ({"clean": {"iterations": 1}}, ONLY_SCIENCE),
    ({"clean": {"fwhm": 2.5}}, ONLY_SCIENCE),
    ({"clean": None}, ONLY_SCIENCE),
    ({"detect": {"threshold": 9.0}}, {"catalog": 1}),
    ({"detect": {"mesh": 32}}, {"catalog": 1}),
    ({"detect": {"method": "peaks"}}, {"catalog": 1}),
    ({"photometer": {"unit": "pixel"}}, {"catalog": 1}),
    ({"photometer": {"radii": (2.0, 3.0)}}, {"catalog": 1}),
    ({"photometer": {"sky": "none"}}, {"catalog": 1}),
    ({"masters": {"max_memory": 2e8}}, {}),
]


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whatif")
    made = larun.Night(simulate_night(folder / "raw", seed=5, options=OPTIONS).folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        made.reduce(folder / "out")
    return made


@pytest.fixture
def out(night):
    return night.folder.parent / "out"


@pytest.fixture
def counted(monkeypatch):
    """How often each operation really ran."""
    ran = Counter()

    def counting(name, function):
        @functools.wraps(function)
        def run(*args, **kwargs):
            ran[name] += 1
            return function(*args, **kwargs)

        return run

    for name, (cls, method, _) in MADE_BY.items():
        wrapped = counting(name, OPERATIONS[name].function)
        monkeypatch.setattr(cls, method, classmethod(wrapped) if method == "combine" else wrapped)
    return ran


def kind_of(name):
    folder, _, file = name.partition("/")
    return {"frames": "frame", "catalogs": "catalog"}.get(folder) or file.split("-")[0]


def read(path):
    return Image.read(path) if path.suffix == ".fits" else SourceCatalog.read(path)


@pytest.mark.parametrize(("changes", "predicted"), PARAMETERS, ids=str)
def test_just_the_predicted_products_are_made_and_they_are_those_of_a_full_reduction(
    night, out, tmp_path, counted, changes, predicted
):
    other = night.replay(out, **changes)
    assert counted == {}
    assert Counter(map(kind_of, other.changed)) == Counter(predicted)
    assert not set(other.changed) & set(other.kept)
    counted.clear()
    whole = {name: other._result(name).product for name in other.changed}
    ran = Counter(counted)
    how = Counter((kind_of(name), other.done[name]) for name in other.changed)
    for operation, (_, _, kind) in MADE_BY.items():
        left_out = operation == "clean" and "clean" in changes and changes["clean"] is None
        assert ran[operation] == (0 if left_out else how[kind, "made"]), operation
    assert how.total() == sum(predicted.values())
    recipe = larun.Recipe().evolve(**changes)
    night.reduce(tmp_path / "full", recipe=recipe)
    for name in other._after.products:
        full = read(tmp_path / "full" / name)
        mine = whole[name] if name in whole else read(out / name)
        assert mine.provenance.id == full.provenance.id, name
        assert mine.identical(full), name


def test_what_turns_out_to_have_the_same_values_ends_it(night, out, counted):
    other = night.replay(out, clean={"sigma": 4.5001})
    found = other.differences()
    frames = [one for one in found if one.name.startswith("frames/")]
    assert {one.how for one in frames} == {"made"}
    assert {one.text for one in frames} == {"the same values, with a new record"}
    assert {one.how for one in found if one.name.startswith("catalogs/")} == {"same values"}
    assert counted["calibrate"] == counted["clean"] == 1
    assert counted["detect"] == counted["photometer"] == 0
    name = other.changed[1].removeprefix("catalogs/").removesuffix(".ecsv")
    old = SourceCatalog.read(out / "catalogs" / f"{name}.ecsv")
    new = other.catalog(name)
    assert new.provenance.id != old.provenance.id
    cleaned = next(node.step for node in new.provenance.line() if node.step and node.step.operation == "clean")
    assert cleaned.parameters["sigma"] == 4.5001


def test_masters_of_the_same_values_end_it_too(night, out, counted):
    other = night.replay(out, bias={"sigma": 5.5})
    other.differences()
    assert other.done["masters/bias-120x112.fits"] == "made"
    assert other.done["masters/dark-60s-120x112.fits"] == "same values"
    assert counted["master_dark"] == 0
    dark, bias = other.master("dark-60s-120x112"), other.master("bias-120x112")
    assert [one.master for one in dark.shared] == [bias.provenance.id]


def test_where_ids_of_masters_change_their_order_nothing_is_taken_over(night, out, monkeypatch):
    other = night.replay(out, bias={"sigma": 5.5})
    monkeypatch.setattr(other, "_same_order", lambda names: False)
    other.differences()
    assert set(other.done.values()) == {"made"}


def test_what_differs_is_told_in_words(night, out):
    found = {one.name.split("/")[0]: one for one in night.replay(out, clean={"sigma": 12.0}).differences()}
    assert "COSMIC: " in found["frames"].text
    assert "−" in found["frames"].text
    found = night.replay(out, detect={"threshold": 20.0}).differences()
    assert all("sources were" in one.text and "(+0 −" in one.text for one in found)
    found = night.replay(out, photometer={"radii": (2.0, 3.0)}).differences()
    assert all("no more columns" in one.text for one in found)


def test_cost_tells_before_anything_is_made(night, out, counted):
    other = night.replay(out, detect={"threshold": 9})
    cost = other.cost(measure=False)
    assert counted == {}
    assert cost.seconds is None
    assert cost.changed == cost.unmade == other.changed
    assert "detect.threshold: 5.0 -> 9.0" in str(cost)
    assert "1 product changes, 4 kept" in str(cost)
    measured = other.cost()
    assert measured.unmade == ()
    assert measured.seconds == 0
    assert set(measured.each) == {"catalog"}
    assert measured.to_dict()["changed"] == list(other.changed)


def test_only_what_is_asked_for_is_made_and_it_is_made_once(night, out, counted):
    other = night.replay(out, clean={"sigma": 12.0})
    name = other.changed[0].removeprefix("frames/").removesuffix(".fits")
    other.frame(name)
    other.frame(name)
    assert counted == {"calibrate": 1, "clean": 1}
    with pytest.raises(OptionError, match="there is no such frame; there are"):
        other.frame("d1")


def test_a_folder_of_it_is_that_of_a_reduction(night, out, tmp_path, counted):
    other = night.replay(out, clean={"sigma": 12.0})
    summary = other.write(tmp_path / "other")
    assert counted["clean"] == 1
    assert not summary.failed
    assert (tmp_path / "other" / "masters" / "bias-120x112.fits").read_bytes() == (
        out / "masters" / "bias-120x112.fits"
    ).read_bytes()
    said = {(entry.section, entry.option): entry.value for entry in recipe_of(tmp_path / "other")}
    assert said["clean", "sigma"] == 12
    again = larun.Night(night.folder).replay(tmp_path / "other", clean={"sigma": 4.5})
    assert again.cost(measure=False).stale == ()
    with pytest.raises(OptionError, match="is not empty"):
        other.write(tmp_path / "other")
    with pytest.raises(OptionError, match="is not empty"):
        other.write(out)


def test_known_bad_pixels_are_to_be_said_again(night, tmp_path):
    mask = np.zeros((112, 120), np.float32)
    mask[20, 30] = 1
    fits.writeto(tmp_path / "mask.fits", mask)
    night.reduce(tmp_path / "out", recipe=larun.Recipe(masters={"bad_pixels": tmp_path / "mask.fits"}))
    with pytest.raises(OptionError, match=r"masters\.bad_pixels: .*only its digest: say it again"):
        night.replay(tmp_path / "out", clean={"sigma": 6})
    other = night.replay(tmp_path / "out", masters={"bad_pixels": tmp_path / "mask.fits"}, clean={"sigma": 6})
    assert Counter(map(kind_of, other.changed)) == ONLY_SCIENCE


def test_bad_wishes_are_refused_in_words(night, out, tmp_path):
    with pytest.raises(FileError, match=r"holds no summary\.ecsv"):
        night.replay(tmp_path)
    with pytest.raises(RecipeError, match=r"clean\.sgima"):
        night.replay(out, clean={"sgima": 5})
    with pytest.raises(OptionError, match="give a mapping of options"):
        night.replay(out, detect=5)
    elsewhere = simulate_night(tmp_path / "raw", seed=6, options=attrs.evolve(OPTIONS, frames=1)).folder
    with pytest.raises(OptionError, match="holds no product that these raw files"):
        larun.Night(elsewhere).replay(out)
