"""What stays of a technician's work: a record that he signs, and a label for the housing."""

from pathlib import Path
from typing import Any

from lamppost_tools.commission.label import Label
from lamppost_tools.durable import read_json, write_file
from lamppost_tools.errors import MissingError, RefusedError
from lamppost_tools.signed_document import RECORDS, canonical_json, sign_document, verify_document
from lamppost_tools.technician.settings import read_technician_public


def write_papers(folder: Path, document: dict[str, Any], private_key: bytes) -> dict[str, str]:
    """Write a record as `records/<node>.json` and `.cose`, `labels/<node>.svg`, `.png` and `.pdf`; their paths by what they are."""
    return {**write_record(folder, document["node"], document, private_key), **_write_label(folder, document)}


def write_rekeying_papers(folder: Path, document: dict[str, Any], private_key: bytes) -> dict[str, str]:
    """The same of a re-keying: its record beside the earlier ones, and a new label, for the key's fingerprint stands on it."""
    name = f"{document['node']}-epoch-{document['epoch']}"
    return {**write_record(folder, name, document, private_key), **_write_label(folder, document)}


def write_record(folder: Path, name: str, document: dict[str, Any], private_key: bytes) -> dict[str, str]:
    """Write `records/<name>.json` and its signature `.cose`; the path by what it is."""
    payload = canonical_json(document)
    record = folder / "records" / f"{name}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    write_file(record, payload)
    write_file(record.with_suffix(".cose"), sign_document(RECORDS[document["format"]], payload, private_key))
    return {"record": str(record)}


def _write_label(folder: Path, document: dict[str, Any]) -> dict[str, str]:
    label = Label(str(document["asset"]), document["node"], document["network"], tuple(document["fixtures"]), document["fingerprint"])
    print_of = folder / "labels" / f"{document['node']}.pdf"
    print_of.parent.mkdir(parents=True, exist_ok=True)
    for suffix, content in ((".pdf", label.pdf()), (".svg", label.svg()), (".png", label.png())):
        write_file(print_of.with_suffix(suffix), content)
    return {"label": str(print_of)}


def read_record(path: Path, technician_public: Path) -> dict[str, Any]:
    """A record whose signature by that technician is good. Raises MissingError, RefusedError."""
    _, public = read_technician_public(technician_public)
    try:
        said = read_json(path, "a record is NODE.json with NODE.cose beside it")
        kind = RECORDS.get(str(said.get("format")), "") if isinstance(said, dict) else ""
        found: dict[str, Any] = verify_document(kind, path.read_bytes(), path.with_suffix(".cose").read_bytes(), public)
    except FileNotFoundError as error:
        raise MissingError(f"{error.filename} does not exist", "a record is NODE.json with NODE.cose beside it") from None
    except RefusedError as error:
        raise RefusedError(f"{path}: {error.what}", "it was changed, or somebody else signed it") from None
    return found
