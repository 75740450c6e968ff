"""Making a city's signer: command key, issuer id, counters, settings and the public file, in a folder of its own."""

import secrets
from pathlib import Path
from typing import Any

from lamppost_protocol.es256_host import public_key

from lamppost_tools.authority.authority import new_private_key
from lamppost_tools.authority.counters import COUNTERS, CounterFile
from lamppost_tools.authority.public import AuthorityPublic, write_authority_public
from lamppost_tools.authority.settings import COUNTERS_NAME, KEY_NAME, PUBLIC_NAME, SETTINGS_NAME, settings_text
from lamppost_tools.broker import BrokerSettings
from lamppost_tools.durable import write_file
from lamppost_tools.key_file import read_passphrase, save_key


def init_authority(
    folder: Path, network: int | None, registry: Path, broker: BrokerSettings, passphrase_file: Path | None
) -> dict[str, Any]:
    """Make the state folder (mode 0700). Returns the public document. Raises RefusedError when a key is there already.

    `network` None draws a random id. `passphrase_file` encrypts the key; its path is noted in the settings.
    """
    passphrase = None if passphrase_file is None else read_passphrase(passphrase_file)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    network = secrets.randbelow(2**32 - 1) + 1 if network is None else network
    issuer = secrets.randbelow(2**32 - 1) + 1
    private_key = new_private_key()
    save_key(folder / KEY_NAME, private_key, passphrase)
    CounterFile.create(folder / COUNTERS_NAME, COUNTERS)
    text = settings_text(network, issuer, registry, broker)
    if passphrase_file is not None:
        text = text.replace("\n\n[broker]", f'\npassphrase_file = "{passphrase_file.resolve()}"\n\n[broker]', 1)
    write_file(folder / SETTINGS_NAME, text.encode())
    public = AuthorityPublic(network, issuer, public_key(private_key))
    write_authority_public(folder / PUBLIC_NAME, public)
    return public.document()
