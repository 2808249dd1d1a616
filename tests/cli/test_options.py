"""From words to options."""

from __future__ import annotations

from pathlib import Path

import pytest

from larun.cli.options import parse_keywords, parse_radii, parse_setting, parse_size, recipe_from
from larun.errors import OptionError
from larun.model.recipe import Recipe


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 5e8), ("2GB", 2e9), ("1e9", 1e9), ("1.5 GiB", 1.5 * 2**30), ("64k", 64e3), ("12", 12.0), ("7B", 7.0)],
)
def test_sizes_are_bytes(text: str, size: float) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "2 parsecs", "1e999", "nan", "2GBB"])
def test_sizes_that_are_none_are_errors_that_say_what_a_size_is(text: str) -> None:
    with pytest.raises(OptionError, match=r"--max-memory .*500MB"):
        parse_size(text)


def test_keyword_values_are_numbers_where_they_look_like_numbers() -> None:
    given = parse_keywords(["GAIN=1.8", "EXPTIME=60", "FILTER=V", "OBJECT=M 13 = NGC 6205", "A=-2e3", "B=", "C=1_0"])
    assert given == {
        "GAIN": 1.8,
        "EXPTIME": 60,
        "FILTER": "V",
        "OBJECT": "M 13 = NGC 6205",
        "A": -2000.0,
        "B": "",
        "C": "1_0",
    }
    assert isinstance(given["EXPTIME"], int)


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999"])
def test_keyword_values_that_are_not_finite_stay_text(text: str) -> None:
    assert parse_keywords([f"OBJECT={text}"]) == {"OBJECT": text}


@pytest.mark.parametrize("words", [["GAIN"], ["=3"], [" =3"], ["GAIN=1", "GAIN=2"]])
def test_keywords_that_make_no_sense_are_errors(words: list[str]) -> None:
    with pytest.raises(OptionError, match="--keyword"):
        parse_keywords(words)


@pytest.mark.parametrize("word", ["nonsense=1", "GAIN=-2", "RDNOISE=x", "OBJECT=a\nb", "EXPTIME=-1"])
def test_given_values_no_camera_understands_are_errors(word: str) -> None:
    with pytest.raises(OptionError, match=f"--keyword {word.partition('=')[0]}"):
        recipe_from(keywords=[word])
    assert recipe_from(keywords=["GAIN=1.8", "filter=V"]).keywords == {"GAIN": 1.8, "filter": "V"}


def test_kinds_come_with_commas_or_repeated() -> None:
    assert recipe_from(without=["flat,dark", " bias "]).calibrate["without"] == ("flat", "dark", "bias")
    with pytest.raises(OptionError, match=r"--without science: .*'bias', 'dark', 'flat'"):
        recipe_from(without=["science"])


def test_radii_are_positive_numbers() -> None:
    assert parse_radii("1,1.5, 2.5") == [1.0, 1.5, 2.5]
    for text in ("", "1,,2", "0", "-1", "nan", "inf", "a"):
        with pytest.raises(OptionError, match="--radii"):
            recipe_from(radii=text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("true", True),
        ("[3, 5]", [3, 5]),
        ("3,5,8", [3, 5, 8]),
        ("median", "median"),
        ('"median"', "median"),
        ("a = b", "a = b"),
        ("", ""),
        ("1\nmesh = 3", "1\nmesh = 3"),
    ],
)
def test_a_setting_is_a_value_of_toml_or_a_text(text: str, value: object) -> None:
    assert parse_setting(f"detect.options.x={text}")[:3] == ("detect.options", "x", value)


@pytest.mark.parametrize("text", ["", "detect", "detect=3", "detect.threshold", ".x=1", "detect.=1"])
def test_a_setting_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(OptionError, match=r"section\.option=value"):
        parse_setting(text)


def test_options_that_contradict_each_other_are_errors() -> None:
    with pytest.raises(OptionError, match=r"--clean-engine median: clean is left out \(--no-clean\)"):
        recipe_from(clean=False, clean_engine="median")
    with pytest.raises(OptionError, match="--flag-only: clean is left out"):
        recipe_from(clean=False, flag_only=True)
    with pytest.raises(OptionError, match="--radius-unit"):
        recipe_from(radius_unit="pixel")


def test_every_option_of_the_command_line_sets_its_option_of_the_recipe() -> None:
    recipe = recipe_from(
        without=["dark"],
        overscan="spline",
        max_memory="2GB",
        clean_engine="median",
        flag_only=True,
        threshold=7.0,
        radii="3,5",
        radius_unit="pixel",
        annulus="8,12",
    )
    assert {item.option: item.one for item in recipe.diff(Recipe())} == {
        "calibrate.without": ("dark",),
        "overscan.method": "spline",
        "masters.max_memory": 2e9,
        "clean.engine": "median",
        "clean.replace": False,
        "detect.threshold": 7.0,
        "photometer.radii": (3.0, 5.0),
        "photometer.unit": "pixel",
        "photometer.annulus": (8.0, 12.0),
    }
    assert recipe_from(clean=False).clean is None
    assert recipe_from() == Recipe()


def test_the_command_line_goes_over_set_and_set_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "night.toml"
    path.write_text("[detect]\nthreshold = 6\nmesh = 32\n[clean]\nenabled = false\n[keywords]\nGAIN = 2\n")
    recipe = recipe_from(path, ["detect.threshold=7", "detect.threshold=8"], ["GAIN=3"], clean=True)
    assert (recipe.detect["threshold"], recipe.detect["mesh"], recipe.keywords) == (8.0, 32, {"GAIN": 3})
    assert recipe.clean is not None
    assert recipe_from(path, ["detect.threshold=7"], threshold=9.0).detect["threshold"] == 9.0
    with pytest.raises(OptionError, match=r"--set clean.sigma=6: .* left out \(.*night.toml:5\)"):
        recipe_from(path, ["clean.sigma=6"])


def test_what_is_wrong_in_file_and_words_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "night.toml"
    path.write_text("[detect]\nthreshold = = 6\n")
    with pytest.raises(OptionError) as caught:
        recipe_from(path, ["detect.mesh=1"], threshold=-3.0, bad_pixels=Path("absent.fits"))
    text = str(caught.value)
    assert text.count("\n") == 3
    for part in ("night.toml:2: threshold = = 6", "--set detect.mesh=1", "--threshold -3.0", "--bad-pixels absent"):
        assert part in text
