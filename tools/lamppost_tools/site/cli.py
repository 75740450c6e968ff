"""Parsing of `lamppost site ...` and `lamppost plan`."""

import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from lamppost_tools import terminal
from lamppost_tools.errors import EXIT_DONE, EXIT_NO, UsageError

app = typer.Typer(no_args_is_help=True, help="A street on paper: write its site file, and find every mistake in it.")

_File = Annotated[Path, typer.Argument(metavar="FILE", help="the site file (TOML)")]
_Json = Annotated[bool, typer.Option("--json", help="one JSON document for machines")]


@app.callback()
def _site() -> None:
    """A street on paper."""


@app.command(epilog="Example: lamppost site check site.toml")
def check(file: _File, is_json: _Json = False) -> None:
    """Every mistake in a site file at once, with its line and what to do. Ends with 1 when there is one."""
    from lamppost_tools.site.document import Problem, in_words
    from lamppost_tools.site.file import read_site

    site, problems, remarks = read_site(file)
    if is_json:

        def told(found: list[Problem]) -> list[dict[str, Any]]:
            return [problem._asdict() for problem in found]

        terminal.print_json({"file": str(file), "valid": site is not None, "mistakes": told(problems), "remarks": told(remarks)})
        raise typer.Exit(EXIT_NO if problems else EXIT_DONE)
    for style, found in (("bold red", problems), ("yellow", remarks)):
        for problem in found:
            terminal.out.print(Text(terminal.harmless(in_words(problem)), style))
            terminal.out.print(Text(terminal.harmless(f"  {'fix' if style == 'bold red' else 'note'}: {problem.fix}")))
    if site is None:
        terminal.out.print(f"{len(problems)} mistake{'s' if len(problems) != 1 else ''}")
        raise typer.Exit(EXIT_NO)
    terminal.out.print(f"{file} is right: {len(site.nodes)} node{'s' if len(site.nodes) != 1 else ''}; next: lamppost plan {file}")


@app.command(epilog="Example: lamppost site new --out site.toml --latitude 52.52 --longitude 13.405 --nodes 12 --no-input")
def new(
    out: Annotated[Path, typer.Option(help="the file to write")] = Path("site.toml"),
    name: Annotated[str | None, typer.Option(help="what the street is called")] = None,
    latitude: Annotated[str | None, typer.Option(help="degrees north, -90 to 90")] = None,
    longitude: Annotated[str | None, typer.Option(help="degrees east, -180 to 180")] = None,
    utc_offset: Annotated[str | None, typer.Option(help="winter time less UTC: +1, -3:30")] = None,
    dst: Annotated[str | None, typer.Option(help="summer time by the rule of: eu, us, none")] = None,
    kind: Annotated[str | None, typer.Option(help="what the nodes are: lamp, bin, air")] = None,
    nodes: Annotated[str | None, typer.Option(help="how many, 1 to 500")] = None,
    link: Annotated[str | None, typer.Option(help="serial or lora")] = None,
    radio: Annotated[str | None, typer.Option(help="LoRa only: sx1262, sx1276 or e22")] = None,
    region: Annotated[str | None, typer.Option(help="LoRa only: EU868, US915, ...")] = None,
    report: Annotated[str | None, typer.Option(help="seconds between two reports, 1 to 86400")] = None,
    power: Annotated[str | None, typer.Option(help="lamps only: watts at full light, 1 to 10000")] = None,
    no_input: Annotated[bool, typer.Option("--no-input", help="ask nothing: what no option gives is as by default")] = False,
    force: Annotated[bool, typer.Option("--force", help="write over a file that is there")] = False,
    is_json: _Json = False,
) -> None:
    """Ask a few questions, each with a default and an example, and write a site file that `check` accepts."""
    from lamppost_tools.site.new import answers, site_text, write_site

    given = {
        "name": name, "latitude": latitude, "longitude": longitude, "utc_offset": utc_offset, "dst": dst, "kind": kind,
        "nodes": nodes, "link": link, "radio": radio, "region": region, "report": report, "power": power,
    }  # fmt: skip
    if out.exists() and not force:
        raise UsageError(f"{out} exists already", "give another --out, or --force to write over it")
    written = write_site(out, site_text(answers(given, None if no_input or is_json else _ask)), force)
    if is_json:
        terminal.print_json({"file": str(out), "nodes": len(written.nodes)})
        return
    terminal.out.print(
        f"{out}: {len(written.nodes)} node{'s' if len(written.nodes) != 1 else ''}; edit assets and ports, then: lamppost site check {out}"
    )


def _ask(question: str, default: str) -> str:
    terminal.err.print(f"{question} [{default}]: ", end="")
    try:
        return input().strip()
    except EOFError:
        raise UsageError("the questions are not answered to the end", "answer them, or use options and --no-input") from None


def plan(
    file: _File,
    first: Annotated[str | None, typer.Option("--from", help="first of the 365 nights, 2027-03-01; left out: today")] = None,
    is_json: _Json = False,
) -> None:
    """What a street will cost: airtime, octets, energy, battery, store, flash, gateway. Ends with 1 when something does not fit."""
    from lamppost_tools.plan.plan import make_plan
    from lamppost_tools.plan.words import plan_document, print_plan
    from lamppost_tools.site.file import load_site

    try:
        day = datetime.date.today() if first is None else datetime.date.fromisoformat(first)
    except ValueError:
        day = datetime.date.min
    if not 2000 <= day.year <= 2098:
        raise UsageError(f"--from {first!r} is no date from 2000 to 2098", "for example --from 2027-03-01")
    site = load_site(file)
    made = make_plan(site, day)
    if is_json:
        terminal.print_json(plan_document(site, day, made))
    else:
        print_plan(site, day, made)
    raise typer.Exit(EXIT_NO if made.unfit else EXIT_DONE)
