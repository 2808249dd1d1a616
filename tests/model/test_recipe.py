"""A recipe holds every option of every step, and each of them does something; text, problems, records, reruns."""

import inspect
import math
import pickle
import re
import shutil
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import larun
from larun.algorithms.overscan import OverscanOptions
from larun.errors import FileError, LarunWarning, OptionError, RecipeError
from larun.model.building import BuildOptions
from larun.model.options import Source
from larun.model.recipe import Recipe, compare, recipe_note
from larun.model.sections import KEYWORDS, SECTIONS
from larun.provenance import predict

pytestmark = pytest.mark.filterwarnings("ignore:.*amplifier glow:larun.errors.LarunWarning")

#: Parameters of the steps that are no options: what is worked on, and what has a section of its own or its own table.
NO_OPTIONS = {
    "masters": {"overscan", "given", "camera"},
    "bias": {"frames", "options"},
    "dark": {"frames", "bias", "options"},
    "flat": {"frames", "bias", "dark", "options"},
    "calibrate": {"masters", "overscan", "bad_pixels"},
}
STEPS = {
    "masters": BuildOptions,
    "overscan": OverscanOptions,
    "bias": larun.MasterBias.combine,
    "dark": larun.MasterDark.combine,
    "flat": larun.MasterFlat.combine,
    "calibrate": larun.Frame.calibrate,
    "clean": larun.Frame.clean,
    "detect": larun.Frame.detect,
    "photometer": larun.SourceCatalog.photometer,
}

#: Another value of every option that is not text with documented choices.
OTHER = {
    "masters.max_memory": 2e6,
    "masters.bad_pixels": None,  # made by the test
    "overscan.degree": 3,
    "overscan.pieces": 3,
    "overscan.skip": 2,
    "bias.sigma": 4.0,
    "dark.sigma": 4.0,
    "flat.sigma": 4.0,
    "calibrate.without": ["dark"],
    "clean.sigma": 8.0,
    "clean.contrast": 6.0,
    "clean.fwhm": 2.5,
    "clean.iterations": 1,
    "clean.replace": False,
    "solve.reference": None,  # made by the test
    "solve.radius": 2.0,
    "solve.scale": 0.4,
    "solve.order": 3,
    "detect.threshold": 12.0,
    "detect.fwhm": 4.0,
    "detect.mesh": 32,
    "detect.options": {"sharpness": [0.0, 2.0]},
    "photometer.radii": [1.0, 2.0],
    "photometer.sky": "background",
    "photometer.options": {"factor": 2.0},
    "photometer.annulus": [6.0, 9.0],
}

#: Where an option only has a meaning beside another one.
BESIDE = {
    "detect.options": Recipe(detect={"method": "dao"}),
    "photometer.options": Recipe(photometer={"aperture": "kron"}),
}


def options():
    return [(name, option) for name, section in SECTIONS.items() for option in section.options.values()]


# -- the set of options ------------------------------------------------------------------------------------------------


def test_every_parameter_of_every_step_is_in_the_recipe():
    for name, step in STEPS.items():
        parameters = [p for p in inspect.signature(step).parameters.values() if p.kind is not p.VAR_KEYWORD]
        wanted = {p.name for p in parameters} - NO_OPTIONS.get(name, set()) - {"self"}
        assert set(SECTIONS[name].options) == wanted, name
    assert set(SECTIONS) == {*STEPS, KEYWORDS, "detector", "solve", "output"}


def test_defaults_are_those_of_the_steps_and_every_option_is_documented():
    for name, option in options():
        assert len(option.text) > 8, f"{name}.{option.name}"
        assert option.says, f"{name}.{option.name}"
        assert option.kinds, f"{name}.{option.name}"
        if name in STEPS:
            parameter = inspect.signature(STEPS[name]).parameters[option.name]
            assert option.default == parameter.default


def test_a_new_option_of_a_step_is_in_the_recipe_by_itself():
    class Step:
        def work(self, data, depth: "int | None" = None, *, kind: str = "a", table: "Mapping[str, float]" = {}, **rest):  # noqa: B006, F821
            """Work.

            Parameters
            ----------
            data : array
                What is worked on.
            depth : int, optional
                How deep.
            kind : {"a", "b"} or callable
                Which one, see :meth:`larun.Frame.clean`.
            table : mapping
                More.
            """
            if kind not in ("a", "b") and not callable(kind):
                raise OptionError(f"kind={kind!r}: must be a or b")
            return self.data

    source = Source(Step, "work")
    assert list(source.options) == ["depth", "kind", "table"]
    depth, kind, table = source.options.values()
    assert (depth.says, kind.says, table.says) == ('a whole number or "none"', '"a" or "b"', "a table")
    assert (depth.text, kind.text) == ("How deep.", "Which one, see clean.")
    assert (depth.conform("none"), depth.conform(3), table.conform({"x": 1.5})) == (None, 3, {"x": 1.5})
    assert source.problems({"kind": "a", "depth": 3}) == {}
    assert source.problems({"kind": "c", "depth": 3}) == {"kind": "must be a or b"}


#: Choices that an option has only together with another.
ONLY_WITH = {"fitted": {"method": "psf"}}


@pytest.mark.parametrize("name", [name for name in STEPS if name not in ("masters", "overscan")])
def test_documented_choices_are_those_of_the_step(name):
    for option in SECTIONS[name].options.values():
        if option.kinds[0] is not str:
            continue
        assert option.choices, option.name
        for choice in option.choices:
            others = ONLY_WITH.get(choice, {}) if option.name == "sky" else {}
            Recipe(**{name: {option.name: choice, **others}})
        with pytest.raises(RecipeError, match=f"{name}.{option.name}"):
            Recipe(**{name: {option.name: "nonsense"}})


def fingerprint(recipe, sample, folder):
    """The records of everything the recipe would make, and what decides no pixel."""
    raw = sample.raw
    build = recipe.build
    steps = [
        predict("master_bias", larun.MasterBias, [], options=build, **recipe.bias),
        predict("master_dark", larun.MasterDark, [], options=build, **recipe.dark),
        predict("master_flat", larun.MasterFlat, [], options=build, **recipe.flat),
        predict("calibrate", raw, (), overscan=build.overscan, **recipe.calibrate),
        *([predict("clean", raw, **recipe.clean)] if recipe.clean is not None else []),
        predict("detect", raw, **recipe.detect),
        predict("photometer", raw, **recipe.photometer),
    ]
    mask = None if build.bad_pixels is None else build.bad_pixels.provenance.id
    rest = recipe.output["catalog"], dict(recipe.detector), dict(recipe.solve)
    return [step.identity() for step in steps], mask, build.max_memory, *rest


@pytest.mark.parametrize("key", [f"{name}.{option.name}" for name, option in options()] + ["clean.enabled"])
def test_every_option_changes_something(key, sample, tmp_path):
    name, _, word = key.partition(".")
    stars = str(tmp_path / "stars.ecsv")
    if name == "solve":
        Table({"ra": [1.0], "dec": [2.0], "mag_V": [10.0]}).write(stars)
    if key == "masters.bad_pixels":
        value = str(tmp_path / "mask.fits")
        fits.PrimaryHDU(np.zeros((160, 176), np.uint8)).writeto(value)
    elif key == "solve.reference":
        value = stars
    elif key in OTHER:
        value = OTHER[key]
    elif word == "enabled":
        value = False
    else:
        option = SECTIONS[name].options[word]
        if option.choices:
            value = next(choice for choice in option.choices if choice != option.default)
        else:
            pytest.fail(f"{key} is new: give another value for it in OTHER, and what it needs in BESIDE")
    usual = BESIDE.get(key, Recipe(solve={"reference": stars}) if name == "solve" and word != "reference" else Recipe())
    changed = usual.evolve(**{name: {word: value}})
    assert fingerprint(changed, sample, tmp_path) != fingerprint(usual, sample, tmp_path)
    assert {item.option for item in changed.diff(Recipe())} >= {key}
    decides = key not in ("masters.max_memory", "output.catalog")
    assert (changed.digest != Recipe().digest) == decides
    assert Recipe.from_text(changed.to_toml()) == changed
    assert Recipe.from_text(changed.to_toml(short=True)) == changed


def example_finder(search):
    """A finder of the user's own."""
    return []


def test_options_of_an_engine_are_a_table():
    inline = Recipe.from_text('[detect]\nmethod = "sep"\noptions = {min_area = 7}\n')
    table = Recipe.from_text('[detect]\nmethod = "sep"\n[detect.options]\nmin_area = 7\n')
    assert inline == table == Recipe.from_text(inline.to_toml())
    assert inline.detect["options"] == {"min_area": 7}
    with pytest.raises(RecipeError, match=r"n:2: detect.options = \{min_area = 7\}: .*method='peaks' has none"):
        Recipe.from_text('detect.method = "peaks"\ndetect.options = {min_area = 7}\n', "n")
    with pytest.raises(RecipeError, match=r"n:4: detect.options"):
        Recipe.from_text('[detect]\nmethod = "sep"\n[detect.options]\nmin_are = 7\n', "n")
    with pytest.raises(RecipeError, match=r"n:2: \[detect.option\]: there is no such section"):
        Recipe.from_text("[detect]\n[detect.option]\nx = 7\n", "n")


# -- text --------------------------------------------------------------------------------------------------------------


def test_a_complete_recipe_holds_every_option_and_comes_back_the_same(tmp_path):
    recipe = Recipe(
        keywords={"GAIN": 1.8, "DATE-OBS": "2024-05-13", "exposure": 60, "OBJECT": 'M 13 "Hercules" \\ 1'},
        clean=None,
        photometer={"radii": (3, 5), "unit": "pixel", "annulus": (8, 12)},
    )
    path = recipe.write(tmp_path / "night.toml")
    again = Recipe.read(path)
    assert again == recipe
    assert again.to_toml() == recipe.to_toml()
    assert again.digest == recipe.digest
    assert again.clean is None
    text = path.read_text()
    for name, section in SECTIONS.items():
        body = text.partition(f"[{name}]\n")[2].partition("\n[")[0]
        assert (
            re.findall(r"^(?:# (?=\w+ = \"))?(\w+) = ", body, re.M)[name in (KEYWORDS, "clean") :]
            == list(section.options)
            or name == KEYWORDS
        )
    assert set(tomllib.loads(text)) == set(SECTIONS)
    assert max(len(line) for line in path.read_text().splitlines()) <= 100
    with pytest.raises(FileError, match="exists"):
        recipe.write(path)
    assert Recipe.from_text("") == Recipe()
    assert recipe != Recipe()


def test_a_recipe_is_a_value(tmp_path):
    recipe = Recipe(detect={"threshold": 7})
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    with pytest.raises(TypeError):
        recipe.detect["threshold"] = 8
    with pytest.raises(AttributeError):
        recipe.detect = {}
    other = recipe.evolve(detect={"mesh": 32}, clean=None)
    assert (other.detect["threshold"], other.detect["mesh"], other.clean) == (7.0, 32, None)
    assert other.evolve(clean={"engine": "median"}).clean["engine"] == "median"
    with pytest.raises(OptionError, match=r"photometry: .*did you mean photometer"):
        recipe.evolve(photometry={})
    with pytest.raises(RecipeError, match=r"detect.treshold = 3: .*did you mean threshold"):
        Recipe(detect={"treshold": 3})
    with pytest.raises(OptionError, match="mapping"):
        Recipe(detect=None)


def test_a_function_may_stand_in_python_but_not_in_toml():
    assert not SECTIONS["detect"].options["threshold"].open
    with pytest.raises(RecipeError, match="must be a number"):
        Recipe(detect={"threshold": max})
    recipe = Recipe(detect={"method": example_finder}, clean={"engine": example_finder})
    assert pickle.loads(pickle.dumps(recipe)).digest == recipe.digest != Recipe().digest
    with pytest.raises(OptionError, match=r"detect.method: a function cannot be written in TOML.*registered"):
        recipe.evolve(clean=None).to_toml()
    mask = np.zeros((4, 4))
    with pytest.raises(OptionError, match=r"masters.bad_pixels: a ndarray cannot be written in TOML"):
        Recipe(masters={"bad_pixels": mask}).to_toml()


def test_paths_begin_at_the_folder_of_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    fits.PrimaryHDU(np.zeros((4, 4), np.uint8)).writeto(tmp_path / "mask.fits")
    path = tmp_path / "recipes" / "night.toml"
    path.write_text('[masters]\nbad_pixels = "../mask.fits"\n')
    monkeypatch.chdir("/")
    recipe = Recipe.read(path)
    assert recipe.build.bad_pixels.shape == (4, 4)
    assert Recipe.read(path).digest == Recipe(masters={"bad_pixels": tmp_path / "mask.fits"}).digest


WRONG = r"""[detect]
treshold = 5
threshold = "5"
mesh = 3.5
fwhm = true
[clean]
sigma = -1
contrast = nan
iterations = 1000000000000000000000000000000000000000000000
engine = "laurn"
enabled = 1
[photometry]
x = 1
[photometer]
radii = [0, -1]
unit = "\u0007"
sky = "blue"
annulus = [1, 2, 3]
[keywords]
GAIN = -1
gian = 2
OBJECT = "a\nb"
EXPTIME = inf
FILTER = ["V"]
[calibrate]
without = "dark"
[masters]
bad_pixels = "../../../../etc/passwd"
max_memory = 0
[bias]
sigma = 1
threshold = 3
sigma = 4
[output]
catalog = "../x"
[overscan]
method = 2024-05-13
degree = 11
skip = = 3
"""
SAID = {
    2: "did you mean threshold?",
    3: 'detect.threshold = "5": must be a number',
    4: "detect.mesh = 3.5: must be a whole number",
    5: 'detect.fwhm = true: must be a number or "none"',
    7: "clean.sigma = -1: must be positive",
    8: "clean.contrast = nan: is not a number",
    9: "far too large",
    10: "did you mean larun?",
    11: "clean.enabled = 1: must be true or false",
    12: "[photometry]: there is no such section; did you mean photometer?",
    15: "photometer.radii = [0, -1]: must be positive numbers",
    16: "control characters",
    17: "must be 'annulus', 'background' or 'none'",
    18: "has 3 values; must be a list of 2 numbers",
    20: "keywords.GAIN = -1: must be positive",
    21: "neither a quantity",
    22: "printable ASCII",
    23: "finite",
    24: "must be a number, a text",
    26: "must be a list of",
    28: "not a FITS file",
    29: "must be positive",
    31: "must be from 3 to 100",
    32: "it belongs to [detect]",
    33: "bias.sigma: is there already, in line 31",
    35: "use ecsv, fits, parquet, vot",
    37: "overscan.method = 2024-05-13: must be",
    38: "must be a whole number from 0 to 10",
    39: "skip = = 3: Invalid value",
}


def test_all_problems_of_a_recipe_are_told_at_once_with_their_lines(tmp_path):
    path = tmp_path / "night.toml"
    path.write_text(WRONG)
    with pytest.raises(RecipeError) as caught:
        Recipe.read(path)
    found = {}
    for problem in caught.value.problems:
        assert problem.startswith(f"{path}:")
        assert problem.isprintable()
        line, _, said = problem.removeprefix(f"{path}:").partition(": ")
        found[int(line)] = said
    assert list(found) == sorted(found)
    assert set(found) == set(SAID)
    for line, text in SAID.items():
        assert text in found[line], (line, found[line])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_options_are_judged_together():
    """An annulus that only fits apertures the recipe itself makes smaller; and one that does not."""
    good = '[photometer]\nannulus = [2, 3]\nradii = [1, 2]\nsky = "annulus"\n'
    assert Recipe.from_text(good).photometer["annulus"] == (2.0, 3.0)
    with pytest.raises(RecipeError, match=r"^n:2: photometer.annulus = \[2, 3\]: must be an inner") as caught:
        Recipe.from_text(good.replace("[1, 2]", "[1, 5]"), "n")
    assert len(caught.value.problems) == 1
    with pytest.raises(RecipeError, match=r"^n:4: photometer.sky") as caught:
        Recipe.from_text(good.replace('"annulus"', '"blue"'), "n")
    assert len(caught.value.problems) == 1
    with pytest.raises(RecipeError, match=r"clean.fwhm = 2: astroscrappy knows no star size"):
        Recipe(clean={"engine": "astroscrappy", "fwhm": 2})


@pytest.mark.parametrize(
    "content", [b"\xff\xfe[\x00", b"[detect]\nthreshold = \xe9\n", b"\x00" * 100, b"SIMPLE", b"{" * 9999]
)
def test_files_that_are_no_recipe_are_problems_with_a_line(tmp_path, content):
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=rf"^{path}:\d+: "):
        Recipe.read(path)
    with pytest.raises(FileError, match="no such file"):
        Recipe.read(tmp_path / "absent.toml")


# -- what a recipe does ------------------------------------------------------------------------------------------------


def test_the_default_recipe_gives_what_the_bare_chain_gives(sample):
    recipe = Recipe.from_text(Recipe().to_toml())
    frame = recipe.prepare(sample.raw, sample.masters)
    assert frame.identical(sample.clean)
    catalog = recipe.measure(frame)
    assert catalog.identical(sample.catalog)
    assert recipe.evolve(clean=None).prepare(sample.raw, sample.masters).identical(sample.frame)
    sparse = recipe.evolve(detect={"threshold": 30}).apply(sample.raw, sample.masters)
    assert 0 < len(sparse) < len(catalog)


@pytest.fixture(scope="module")
def small(sample, tmp_path_factory):
    """The V frames of the night alone."""
    folder = tmp_path_factory.mktemp("small") / "raw"
    folder.mkdir()
    for frame in sample.truth.frames:
        if frame.band in (None, "V"):
            (folder / frame.path.name).symlink_to(frame.path)
    return folder


@pytest.fixture(scope="module")
def reduced(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("recipe") / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        larun.Night(small).reduce(out, recipe=Recipe.from_text(Recipe().to_toml()))
    return out


def stamps(out):
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.rglob("*.*") if path.is_file()}


BIAS, DARK, FLATS = {"bias"}, {"dark"}, {"flat"}
FRAMES, CATALOGS = {"frames"}, {"catalogs"}


@pytest.mark.parametrize(
    ("recipe", "remade"),
    [
        (Recipe(), set()),
        (Recipe(masters={"max_memory": 2e8}), set()),
        (Recipe(photometer={"radii": (1.0, 2.0)}), CATALOGS),
        (Recipe(detect={"threshold": 9.0}), CATALOGS),
        (Recipe(clean={"sigma": 6.0}), FRAMES | CATALOGS),
        (Recipe(clean=None), FRAMES | CATALOGS),
        (Recipe(flat={"method": "median"}), FLATS | FRAMES | CATALOGS),
        (Recipe(dark={"method": "median"}), DARK | FLATS | FRAMES | CATALOGS),
        (Recipe(bias={"method": "median"}), BIAS | DARK | FLATS | FRAMES | CATALOGS),
        (Recipe(overscan={"skip": 2}), BIAS | DARK | FLATS | FRAMES | CATALOGS),
        (Recipe(keywords={"gain": 1.6}), BIAS | DARK | FLATS | FRAMES | CATALOGS),
        (Recipe(calibrate={"without": ["dark"]}), FLATS | FRAMES | CATALOGS),
    ],
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else None,
)
def test_a_changed_recipe_makes_again_exactly_what_it_decides(small, reduced, tmp_path, recipe, remade):
    out = tmp_path / "out"
    shutil.copytree(reduced, out)
    before = stamps(out)
    summary = larun.Night(small).reduce(out, recipe=recipe)
    assert not summary.failed
    after = stamps(out)
    changed = {name for name in before if after[name] != before[name]} - {"summary.ecsv"}
    parts = {name.split("/")[1].split("-")[0] if name.startswith("masters") else name.split("/")[0] for name in changed}
    assert parts == remade
    for group in remade:
        mine = [name for name in before if name.startswith((f"masters/{group}", f"{group}/"))]
        assert mine
        assert set(mine) <= changed  # all of them
    assert sum(row.written for row in summary.rows) == len(changed)
    for row in summary.rows:
        assert (row.status == "skipped") == (row.written == 0)


def test_a_lost_frame_is_made_again_and_its_catalogue_kept(small, reduced, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(reduced, out)
    before = stamps(out)
    whole = (out / "frames" / "science-V-001.fits").read_bytes()
    (out / "frames" / "science-V-001.fits").unlink()
    larun.Night(small).reduce(out)
    after = stamps(out)
    assert {n for n in before if before[n] != after[n]} == {"frames/science-V-001.fits", "summary.ecsv"}
    assert (out / "frames" / "science-V-001.fits").read_bytes() == whole


def test_the_recipe_is_recorded_in_every_product(sample, reduced):
    default = Recipe().record()
    for path in sorted(reduced.glob("*/*.*")):
        note = recipe_note(path)
        names = [name for name in SECTIONS if name != "solve"]  # no reference was named
        last = "photometer" if path.suffix == ".ecsv" else path.name.split("-")[0]
        last = "clean" if path.parent.name == "frames" else last
        assert list(note["sections"]) == sorted(names[: names.index(last) + 1]), path
        assert all(note["sections"][name] == default[name] for name in note["sections"])
        assert compare(path) == ()
    table = Table.read(reduced / "summary.ecsv")
    assert table.meta["recipe_digest"] == Recipe().digest
    assert table.meta["recipe"]["detect"]["threshold"] == 5
    catalog = reduced / "catalogs" / "science-V-001.ecsv"
    assert recipe_note(catalog)["digest"] == Recipe().digest
    assert recipe_note(sample.truth.select("object", "V")[0].path) is None


def test_a_recipe_is_read_from_a_product_and_used_again(sample, small, reduced, tmp_path):
    changed = Recipe(detect={"threshold": 20}, photometer={"radii": (2.0, 3.0)}, clean=None, output={"catalog": "fits"})
    path = tmp_path / "one.fits"
    changed.apply(sample.raw, sample.masters).write(path, recipe=changed)
    again = Recipe.read(path)
    assert again == changed.evolve(output={"catalog": "ecsv"})  # the format decides no value
    assert {item.option for item in compare(path)} >= {"detect.threshold", "photometer.radii", "clean.enabled"}
    assert compare(path, path) == ()
    text = tmp_path / "night.toml"
    changed.write(text)
    assert compare(path, text) == compare(text, path) == ()
    # a frame knows nothing of detection
    assert {item.option for item in compare(reduced / "frames" / "science-V-001.fits", text)} == {
        "clean.enabled",
        *(f"clean.{name}" for name, option in SECTIONS["clean"].options.items() if option.default is not None),
    }
    sample.catalog.write(tmp_path / "plain.ecsv")
    for plain in (tmp_path / "plain.ecsv", sample.truth.select("object", "V")[0].path):
        with pytest.raises(FileError, match="not made by a recipe"):
            Recipe.read(plain)
    summary = larun.Night(small).reduce(tmp_path / "out", recipe=changed)
    assert {Path(row.path).suffix for row in summary.rows if row.kind == "science"} == {".fits"}
    assert math.isclose(len(larun.SourceCatalog.read(summary.rows[-1].path)), summary.rows[-1].sources)
    assert {row.status for row in larun.Night(small).reduce(tmp_path / "out", recipe=changed).rows} == {"skipped"}


def test_what_is_given_to_the_night_goes_over_the_recipe(sample, tmp_path):
    recipe = Recipe(keywords={"GAIN": 1.6, "RDNOISE": 6.0})
    masters = larun.Night(sample.folder, given={"GAIN": 1.7}).masters(tmp_path, recipe=recipe)
    amplifier = masters.of("bias")[0].raw_detector.amplifiers[0]
    assert (amplifier.gain, amplifier.read_noise) == (1.7, 6.0)
    assert recipe_note(tmp_path / "bias-176x160.fits")["sections"][KEYWORDS] == {"GAIN": 1.7, "RDNOISE": 6}
