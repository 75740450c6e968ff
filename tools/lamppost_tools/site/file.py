"""A street on paper: one TOML file with its place, defaults, radio, gateway, schedules and nodes; read and checked as a whole.

Every mistake is found at once, with its line and what to do. Ranges and defaults are the firmware's (node/config_keys.py), schedules go
through order/schedule_file.py, the radio through `lamppost_protocol.regions`.
`lamppost site new` writes one to begin with.
"""

import tomllib
from pathlib import Path
from typing import Any

from lamppost_tools.errors import MissingError, RefusedError, UsageError
from lamppost_tools.node.config import node_config
from lamppost_tools.site.document import Document, Problem, in_words
from lamppost_tools.site.rules import check_document
from lamppost_tools.site.site import Site


def read_site(path: Path) -> tuple[Site | None, list[Problem], list[Problem]]:
    """Read and check the file: (the site, or None), every mistake by line, every remark. Raises MissingError."""
    advice = "lamppost site new writes one"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingError(f"{path} does not exist", advice) from None
    except UnicodeDecodeError:
        return None, [Problem(str(path), None, "is not text in UTF-8", "save it as UTF-8")], []
    try:
        document = Document(text, str(path), path.resolve().parent)
    except tomllib.TOMLDecodeError as error:
        return None, [_not_toml(str(path), error)], []
    site = check_document(document)
    return (None if document.problems else site), sorted(document.problems, key=_by_line), sorted(document.remarks, key=_by_line)


def load_site(path: Path) -> Site:
    """The checked site, for commands that use it. Raises MissingError, or RefusedError with the mistakes."""
    site, problems, _ = read_site(path)
    if site is None:
        found = "\n".join(in_words(problem) for problem in problems[:5])
        more = f"\nand {len(problems) - 5} more" if len(problems) > 5 else ""
        raise RefusedError(f"{path} has mistakes:\n{found}{more}", f"lamppost site check {path}")
    return site


def _not_toml(source: str, error: tomllib.TOMLDecodeError) -> Problem:
    # Python 3.14 gives the place as fields; before, only in words.
    words = str(error)
    text, _, place = words.rpartition(" (at ")
    digits = "".join(letter for letter in place.partition(",")[0] if letter.isdecimal())
    return Problem(
        source, int(digits) if digits else None, f"not TOML: {text or words}", "correct this first: the rest cannot be read before"
    )


def _by_line(problem: Problem) -> tuple[str, int]:
    return problem.file, problem.line or 0


def node_of_site(path: Path, asset: str | None, network: int) -> tuple[dict[str, Any], str, int | None, dict[str, list[Any]]]:
    """What enrolment needs of one node of a site: (configuration, asset, id or None, schedules). `asset` None: its only node.

    Raises MissingError, UsageError without an asset, RefusedError for mistakes in the file, or another network.
    """
    site = load_site(path)
    if asset is None and len(site.nodes) > 1:
        known = ", ".join(node.asset for node in site.nodes)
        raise UsageError(f"{path} has {len(site.nodes)} nodes: which one?", f"--asset, one of: {known}")
    node = site.nodes[0] if asset is None else site.node(asset)
    if site.network not in (None, network):
        raise RefusedError(f"{path} is for network {site.network:08x}, the authority's is {network:08x}", "give the other --authority-key")
    return node_config(node.config, network)[0], node.asset, node.id, node.schedules
