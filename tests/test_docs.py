"""What the documentation says is there, and its code runs.

The tutorial runs when the documentation is built; here it is only compiled.
"""

import doctest
import importlib
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import larun
from larun import simulate
from tests.conftest import DATA, real_data

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "api", "tutorials"} & set(path.parts))
PAGES.append(ROOT / "README.md")
TUTORIALS = sorted((ROOT / "tutorials").glob("*.md"))
MODULES = sorted(module.name for module in pkgutil.walk_packages(larun.__path__, "larun."))

# Parts of other algorithms, without a page of their own.
INNER = {
    "larun.algorithms.arrays",
    "larun.algorithms.background_kernels",
    "larun.algorithms.calibrate_kernels",
    "larun.algorithms.masternoise",
    "larun.algorithms.combine_kernels",
    "larun.algorithms.kernel_cache",
    "larun.algorithms.drizzle",
    "larun.algorithms.linked",
    "larun.algorithms.localmedian",
    "larun.algorithms.moments",
    "larun.algorithms.lanes",
    "larun.algorithms.order",
    "larun.algorithms.overlap",
    "larun.algorithms.pack",
    "larun.algorithms.psf_field_kernels",
    "larun.algorithms.psf_alone",
    "larun.algorithms.psf_flags",
    "larun.algorithms.psf_groups",
    "larun.algorithms.psf_moves",
    "larun.algorithms.psf_kernels",
    "larun.algorithms.psf_solve",
    "larun.algorithms.matchfit_kernels",
    "larun.algorithms.quickstars",
    "larun.algorithms.resample_kernels",
    "larun.algorithms.robust",
    "larun.algorithms.stack_kernels",
    "larun.algorithms.stamps",
    "larun.algorithms.stored_kernels",
    "larun.algorithms.taps",
    "larun.algorithms.warm",
    "larun.algorithms.zogy_tiles",
}


def blocks(path, language):
    """The code blocks of a page, in order."""
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.S | re.M)


def name_of(path):
    return str(path.relative_to(ROOT))


GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
GUIDE_WITH_CODE = [page for page in GUIDE if blocks(page, "python")]
#: Pages that show files and commands between their code: everything runs, in order.
IN_ORDER = [page for page in PAGES if "```{code-block} python\n:caption: " in page.read_text(encoding="utf-8")]
WITH_CODE = [page for page in PAGES if blocks(page, "python") and page not in IN_ORDER + GUIDE]


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    """A small raw night as the pages assume it; one file has the name the README uses."""
    folder = tmp_path_factory.mktemp("docs") / "raw"
    options = simulate.NightOptions(
        camera=simulate.Camera(shape=(160, 160), filters=("V",), dead_columns=(30,)),
        zero_points=(23.5,),
        sky=(4.0,),
        biases=4,
        darks=3,
        dark_exposures=(3, 60),
        flats=3,
        frames=2,
        star_density=2500,
    )
    simulate.simulate_night(folder, seed=3, options=options)
    shutil.copyfile(folder / "science-V-001.fits", folder / "d1059.fits")
    return folder


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_the_code_of_every_page_runs(page, night, tmp_path):
    shutil.copytree(night, tmp_path / "raw")
    start = "import warnings\nimport matplotlib\nmatplotlib.use('Agg')\nwarnings.simplefilter('error')\n"
    script = tmp_path / "page.py"
    script.write_text(start + "\n".join(blocks(page, "python")), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def script_of(page):
    """A page as one Python script: files are written, commands are run, code is code."""
    steps = re.findall(
        r"^```(python|sh|\{code-block\} python)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M
    )
    lines = ["import os, pathlib, subprocess, warnings", "warnings.simplefilter('error')"]
    for kind, text in steps:
        if kind == "sh":
            lines.append(f"shown = subprocess.run(['bash', '-c', {text!r}], capture_output=True, text=True)")
            lines.append("print(shown.stdout, shown.stderr)")
            lines.append("assert shown.returncode in (0, 1) and 'error: ' not in shown.stderr, shown.stderr")
        elif kind == "python":
            lines.append(text)
        else:
            name, body = re.fullmatch(r":caption: (\S+)\n\n(.*)", text, re.S).groups()
            lines.append(f"pathlib.Path({name!r}).write_text({body!r})")
    return "\n".join(lines)


@pytest.mark.parametrize("page", IN_ORDER, ids=name_of)
def test_pages_with_files_and_commands_run_in_order(page, tmp_path, monkeypatch):
    command = tmp_path / "bin" / "larun"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom larun.cli import main\nif __name__ == '__main__':\n    main()\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", script_of(page)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # What the page says a command prints, it prints.
    printed = " ".join(done.stdout.split())
    for text in blocks(page, "text"):
        for line in text.splitlines():
            parts = [re.escape(" ".join(part.split())) for part in line.split("…")]
            assert re.search("[^:]*".join(parts), printed), line
    assert "ready" in printed


@pytest.fixture(scope="session")
def real_night(tmp_path_factory):
    """A folder where the paths of the guide lead to the real data; the pages share the masters they keep in it."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    guide = importlib.import_module("make_guide")
    monkeypatch.undo()
    for name in guide.FOLDERS.values():
        real_data(name)
    return guide, guide.link_data(tmp_path_factory.mktemp("guide"), DATA)


@pytest.mark.parametrize("page", GUIDE_WITH_CODE, ids=name_of)
def test_the_guide_prints_on_the_real_data_what_its_pages_say(page, real_night):
    """``docs/make_guide.py outputs`` writes it."""
    guide, folder = real_night
    assert guide.printed(page, folder) == guide.expected(page), "run docs/make_guide.py outputs"


def test_the_guide_is_made_of_all_its_pages(real_night):
    guide, _ = real_night
    assert sorted(guide.PAGES) == GUIDE_WITH_CODE


@pytest.mark.parametrize("page", TUTORIALS, ids=name_of)
def test_tutorials_have_code_that_compiles(page):
    cells = blocks(page, "{code-cell} python")
    assert len(cells) > 5
    for cell in cells:
        compile(re.sub(r"^:tags:.*$", "", cell, flags=re.M), str(page), "exec")


def test_commands_on_the_pages_exist_with_their_options():
    from typer.main import get_command

    from larun.cli.app import app

    commands = get_command(app).commands
    seen = set()
    for page in PAGES:
        text = "".join(blocks(page, "sh")) + "\n".join(re.findall(r"`(larun [a-z]+ [^`]*)`", page.read_text()))
        for line in text.replace("&&", "\n").splitlines():
            words = shlex.split(line, comments=True)
            if not words or Path(words[0]).name != "larun":
                continue
            assert words[1] in commands, f"{name_of(page)}: {line}"
            command = commands[words[1]]
            if hasattr(command, "commands"):
                assert words[2] in command.commands, f"{name_of(page)}: {line}"
                command = command.commands[words[2]]
            known = {option for parameter in command.params for option in parameter.opts}
            unknown = {word for word in words[2:] if word.startswith("-")} - known
            assert not unknown, f"{name_of(page)}: {line}"
            seen.add(words[1])
    assert {"demo", "ls", "reduce", "provenance"} <= seen


def reference():
    """The names that have a page."""
    text = "\n".join(re.findall(r"```\{eval-rst\}\n(.*?)```", (ROOT / "docs/reference/index.md").read_text(), re.S))
    return set(re.findall(r"^   (larun\.\S+)$", text, re.M))


def test_every_public_name_has_a_page():
    rooms = (larun.simulate, larun.plots, larun.instruments)  # their names have pages, one by one
    wanted = {f"larun.{name}" for name in larun.__all__} - {room.__name__ for room in rooms}
    wanted |= {f"{room.__name__}.{name}" for room in rooms for name in room.__all__}
    wanted |= {name for name in MODULES if name.startswith("larun.algorithms.")} - INNER
    assert not wanted - reference()


def test_every_name_in_the_reference_exists_and_says_what_it_is():
    for name in sorted(reference()):
        holder, _, last = name.rpartition(".")
        found = importlib.import_module(name) if name in MODULES else getattr(importlib.import_module(holder), last)
        assert (found.__doc__ or "").strip(), f"{name} has no docstring"


def test_public_methods_have_docstrings():
    for name in larun.__all__:
        thing = getattr(larun, name)
        if isinstance(thing, type):
            for member, value in vars(thing).items():
                if not member.startswith("_") and (callable(value) or isinstance(value, property | classmethod)):
                    assert (value.__doc__ or "").strip(), f"larun.{name}.{member}"


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_doctests_are_there():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [test for name in MODULES for test in finder.find(importlib.import_module(name), name) if test.examples]
    assert len(examples) > 40


def test_the_architecture_page_names_only_what_is_there():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    mentioned = set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", text))
    files = {path.relative_to(ROOT).as_posix() for room in ("larun", "tests") for path in (ROOT / room).rglob("*.py")}
    missing = {name for name in mentioned if not any(file == name or file.endswith(f"/{name}") for file in files)}
    assert not missing
    rooms = {path.name for path in (ROOT / "larun").iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert not {room for room in rooms if f"`{room}/`" not in text}
    named = set(re.findall(r"\b[a-z_]+\b", text))
    # a camera is a file each, which `larun instrument` lists
    modules = {path for path in (ROOT / "larun").rglob("*.py") if path.parent.name != "instruments"}
    assert not {path.name for path in modules if path.stem != "__init__" and path.stem not in named}


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        if page.name == "README.md":
            continue
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`", text):
            place = (page.parent / f"{target}.md").resolve()
            tutorial = ROOT / "tutorials" / f"{Path(target).name}.md"
            assert place.exists() or ("tutorials" in target and tutorial.exists()), f"{name_of(page)}: {target}"


def test_every_test_of_a_night_has_a_row_that_says_what_it_measures():
    from larun.model.checks.suite import TESTS

    rows = re.findall(r"^\| `([^`]+)` \| .+ \| .+ \|", (ROOT / "docs/noise.md").read_text(encoding="utf-8"), re.M)
    assert sorted(rows) == sorted(test.name for test in TESTS)


def test_pictures_are_small_and_used():
    pictures = sorted(path for path in (ROOT / "docs/images").rglob("*") if path.is_file())
    assert pictures
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in pictures:
        assert picture.stat().st_size < 200_000
        assert picture.name in pages


def test_the_page_of_cameras_is_what_the_real_data_give(monkeypatch):
    """``docs/make_cameras.py`` writes it; times, sections and verdicts of every real file are on it."""
    real_data("headers")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    made = importlib.import_module("make_cameras").page(DATA)
    assert made == (ROOT / "docs" / "reference" / "cameras.md").read_text(encoding="utf-8"), "run docs/make_cameras.py"


def test_the_rows_of_keywords_on_the_page_are_those_of_the_code():
    page = (ROOT / "docs/howto/new-instrument.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| row \| looked for \|\n\|---\|---\|\n((?:\|.*\n)+)", page, re.M)
    rows = {}
    for line in table.splitlines():
        _, name, keywords, _ = line.split("|")
        rows[name.strip(" `")] = tuple(re.findall(r"`([^`]+)`", keywords))
    assert rows == dict(larun.Frame.all_keywords())
