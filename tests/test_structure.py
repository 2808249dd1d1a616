"""The house rules that a machine can check: sizes, layers of import, the public list."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import larun

ROOT = Path(larun.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}

# A command's options are its parameters: typer reads them from the signature.
COMMANDS = ROOT / "cli"


def _functions() -> list[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(path, node) for path, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, kinds)]


def _classes() -> list[tuple[Path, ast.ClassDef]]:
    return [(path, node) for path, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def _is_command(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    decorators = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    return COMMANDS in path.parents and any(getattr(d, "attr", "") in ("command", "callback") for d in decorators)


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 40
    assert len(_functions()) > 300


def test_files_fit_in_a_head() -> None:
    too_long = {p.name: n for p in SOURCES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 500}
    assert not too_long


def test_classes_have_at_most_25_public_names_and_500_lines() -> None:
    wrong = []
    for path, node in _classes():
        names = {n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        names |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
        public = {name for name in names if not name.startswith("_")}
        if len(public) > 25 or (node.end_lineno or 0) - node.lineno > 500:
            wrong.append((path.name, node.name, len(public)))
    assert not wrong


def test_functions_have_at_most_8_parameters_and_100_lines() -> None:
    wrong = []
    for path, node in _functions():
        arguments = node.args
        count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
        lines = (node.end_lineno or 0) - node.lineno
        if (count > 8 and not _is_command(path, node)) or lines > 100:
            wrong.append((path.name, node.name, count, lines))
    assert not wrong


def test_nothing_is_printed_outside_the_faces() -> None:
    faces = (ROOT / "cli", ROOT / "report")
    wrong = [
        (path.name, node.lineno)
        for path, tree in TREES.items()
        if not any(face in path.parents for face in faces)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong


def test_methods_of_images_name_no_image_class() -> None:
    """Type survives: a method that builds its own class by name would turn a subclass into its base."""
    families = {"Image": ("Image", "SkyImage", "Frame"), "SkyImage": ("SkyImage", "Frame"), "Frame": ("Frame",)}
    wrong = [
        (path.name, node.name, call.lineno)
        for path, node in _classes()
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and getattr(call.func, "id", None) in families.get(node.name, ())
    ]
    assert not wrong


@pytest.mark.parametrize("name", larun.__all__)
def test_public_names_exist_and_are_documented(name: str) -> None:
    assert getattr(larun, name).__doc__


def test_the_public_list_is_sorted_and_complete() -> None:
    assert list(larun.__all__) == sorted(larun.__all__)
    assert set(dir(larun)) == set(larun.__all__)
    with pytest.raises(AttributeError, match="nothing_like_this"):
        larun.nothing_like_this


def test_import_larun_loads_nothing_heavy() -> None:
    code = (
        "import sys, larun; heavy = {'matplotlib', 'numba', 'photutils', 'astropy.nddata', 'scipy', 'astropy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_headers_loads_no_engine() -> None:
    code = (
        "import sys, larun; larun.Frame; larun.Night; heavy = {'matplotlib', 'photutils', 'astropy.nddata', 'ccdproc',"
        "'astroscrappy'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_operation_is_documented_and_numbered() -> None:
    import larun.model.night
    from larun.provenance import OPERATIONS

    larun.Frame, larun.MasterFlat, larun.SourceCatalog
    assert {"calibrate", "clean", "detect", "photometer", "master_bias", "crop"} <= set(OPERATIONS)
    for name, known in OPERATIONS.items():
        assert known.function.__doc__, name
        assert known.version >= 1
