"""``larun recipe``: write, check and compare recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from larun.cli.arguments import Json, Setting
from larun.cli.running import OK, USAGE, command

__all__ = ["recipe_app"]

recipe_app = typer.Typer(
    name="recipe", help="Write, check and compare recipes: all options in one file.", no_args_is_help=True
)


@recipe_app.command("init")
@command
def init(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="New file (default: standard output).")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Begin with this recipe, or that of a product.")
    ] = None,
    setting: Setting = None,
    short: Annotated[bool, typer.Option("--short", help="Only what differs from the defaults, no comments.")] = False,
) -> int:
    """Write a recipe with every option, its value and what it means."""
    from larun.cli.options import recipe_from

    made = recipe_from(source, setting)
    if file is None:
        typer.echo(made.to_toml(short=short), nl=False)
    else:
        made.write(file, short=short)
    return OK


@recipe_app.command("check")
@command
def check(file: Annotated[Path, typer.Argument(metavar="FILE", help="Recipe to check.")], as_json: Json = False) -> int:
    """All that is wrong with a recipe, each with its line.

    Ends with code 2 if anything is.
    """
    from larun.errors import RecipeError
    from larun.model.recipe import Difference, Recipe
    from larun.report.terminal import cell, console, heading, write_json

    problems: tuple[str, ...] = ()
    differing: tuple[Difference, ...] = ()
    try:
        differing = Recipe.read(file).diff(Recipe())
    except RecipeError as error:
        problems = error.problems
    if as_json:
        changed = {item.option: item.one for item in differing}
        write_json({"path": str(file), "problems": problems, "changed": changed})
        return USAGE if problems else OK
    screen = console()
    for problem in problems:
        screen.print(cell(problem), soft_wrap=True)
    count = len(differing)
    said = f"{len(problems)} problem{'s' * (len(problems) != 1)}"
    good = f"good; {count} option{'s' * (count != 1)} other than the default"
    screen.print(heading(f"{file}: {said if problems else good}"), soft_wrap=True)
    return USAGE if problems else OK


@recipe_app.command("diff")
@command
def diff(
    one: Annotated[Path, typer.Argument(metavar="A", help="Recipe, or a product made by one.")],
    two: Annotated[Path | None, typer.Argument(metavar="[B]", help="Another (default: larun's defaults).")] = None,
    as_json: Json = False,
) -> int:
    """Options in which two recipes differ; of a product, those that made it."""
    from larun.io.toml import shown
    from larun.model.recipe import compare
    from larun.report.terminal import Column, console, heading, table, write_json

    differing = compare(one, two)
    names = str(one), "defaults" if two is None else str(two)
    if as_json:
        write_json([{"option": item.option, "a": item.one, "b": item.two} for item in differing])
        return OK
    screen = console()
    if not differing:
        screen.print(heading(f"{names[0]} and {names[1]} say the same"), soft_wrap=True)
        return OK
    heads = names if two is None or one.name == two.name else (one.name, two.name)
    columns = (Column("option", whole=True), Column(heads[0]), Column(heads[1]))
    rows = ((item.option, *(None if v is None else shown(v, quoted=True) for v in item[1:])) for item in differing)
    screen.print(table(columns, rows))
    return OK
