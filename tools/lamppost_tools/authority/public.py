"""The authority's public file, `authority-public.json`: what gateways, nodes and tools need to know of it. No secret."""

from dataclasses import dataclass
from pathlib import Path

from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.es256_host import HostVerifier

from lamppost_tools.durable import read_json, write_json
from lamppost_tools.errors import RefusedError


@dataclass(frozen=True)
class AuthorityPublic:
    """One city's network id, the key id of its authority, and the public key (x and y, 64 octets)."""

    network: int
    issuer: int
    public_key: bytes

    def document(self) -> dict[str, str]:
        """As it stands in the file."""
        return {"network": f"{self.network:08x}", "issuer": f"{self.issuer:08x}", "public_key": self.public_key.hex()}


def write_authority_public(path: Path, public: AuthorityPublic) -> None:
    """Write the file, durable when this returns."""
    write_json(path, public.document())


def read_authority_public(path: Path) -> AuthorityPublic:
    """Read the file. Raises MissingError, or RefusedError when it is something else."""
    document = read_json(path, "run `lamppost authority init` first, or give its authority-public.json")
    try:
        public = AuthorityPublic(int(document["network"], 16), int(document["issuer"], 16), bytes.fromhex(document["public_key"]))
        HostVerifier(public.public_key)
    except (KeyError, TypeError, ValueError, ProtocolError):
        raise RefusedError(f"{path} is not an authority's public file", "look for authority-public.json") from None
    return public
