"""What is on a board before anything is done to it: the interpreter, the chip's own number, room on its flash, whose node it is.

The board reads its identity itself and tells the public part; its keys never come over the cable.
"""

import json
import os
from dataclasses import dataclass
from typing import Any

from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.es256_host import HostVerifier

from lamppost_tools.board.installer import has_rom
from lamppost_tools.board.repl import Board
from lamppost_tools.errors import RefusedError
from lamppost_tools.kit.esp_image import CHIPS
from lamppost_tools.node.enrol import IDENTITY

_PREFIX = b"lamppost/commission/"

_LOOK = """import binascii, json, os, sys
import machine
told = {'micropython': '.'.join(str(part) for part in sys.implementation[1][:3]), 'mpy': getattr(sys.implementation, '_mpy', 0) & 255}
told['machine'] = getattr(sys.implementation, '_machine', sys.platform)
told['build'] = ''
if hasattr(os, 'uname'):
    told['machine'], told['build'] = os.uname().machine, os.uname().version
told['unit'] = binascii.hexlify(machine.unique_id()).decode()
with open('/.new', 'wb') as file:
    file.write(b'lamppost' * 64)
with open('/.new', 'rb') as file:
    told['writes'] = file.read() == b'lamppost' * 64
os.remove('/.new')
print(json.dumps(told))
"""
_IDENTITY = """import json
def look():
    try:
        with open('/lamppost/{file}', 'rb') as file:
            data = file.read()
    except OSError as error:
        return {{'state': 'none' if error.errno in (2, 20) else 'unreadable'}}
    try:
        from lamppost_protocol import cbor
        values = cbor.decode(data)
        told = {{key: values[key] for key in ('network', 'node', 'epoch')}}
        told['unit'] = ''.join('%02x' % octet for octet in values.get('unit', b''))
    except Exception:
        return {{'state': 'unreadable'}}
    told['state'] = 'there'
    return told
print(json.dumps(look()))
"""
_CHALLENGE = """import machine
from lamppost_node import identity
from lamppost_node.flash import Flash
print(''.join('%02x' % octet for octet in identity.load(Flash('/lamppost'), machine.unique_id(){more}).signer.sign({message!r})))
"""
_FORGIVE = """from lamppost_node.flash import Flash
from lamppost_node.settings import Settings
settings = Settings(Flash('/lamppost'))
boots = settings.load('boot')
if isinstance(boots, list) and len(boots) == 2 and boots[1]:
    settings.save('boot', [boots[0], boots[1] - 1])
"""
FEED = "import machine\nmachine.WDT(timeout=60000).feed()"


@dataclass(frozen=True)
class Seen:
    """`unit`: the chip's own number in hex. `feed`: code that keeps the watchdog of a node that ran until now from biting, or none.

    `build`: the interpreter's version and date as an image tells them, "" where it does not. `mpy`: which bytecode it takes.
    """

    unit: str
    micropython: str
    machine: str
    has_rom: bool
    feed: str
    build: str = ""
    mpy: int = 0

    @property
    def chip(self) -> str:
        """As `esp32c3`, "" for what is none that we know. Ref: MicroPython, `os.uname().machine`: board with chip, as `ESP32-C3FH4`."""
        told = "".join(letter for letter in self.machine.rpartition(" with ")[2].lower() if letter.isalnum())
        return max((name for name in CHIPS if told.startswith(name)), key=len, default="")


def look(board: Board) -> Seen:
    """The board behind a raw REPL. Raises RefusedError for one that cannot be a node."""
    told = json.loads(board.exec(_LOOK))
    if not told["writes"]:
        raise RefusedError(f"{board.port}: the board's file system forgets what is written", "repeat the command with --erase")
    is_node = board.exec("import os\nprint('main.py' in os.listdir('/'))").strip() == "True"
    return Seen(told["unit"], told["micropython"], told["machine"], has_rom(board), FEED if is_node else "", told["build"], told["mpy"])


def identity_on(board: Board, file: str = IDENTITY) -> dict[str, Any]:
    """{"state": "none"}, {"state": "unreadable"}, or "there" with network, node, epoch (integers) and unit (hex, "" where it has none)."""
    found: dict[str, Any] = json.loads(board.exec(_IDENTITY.format(file=file)))
    return found


def has_key(board: Board, public_key: bytes, file: str = IDENTITY) -> bool:
    """Whether the board signs a random challenge with the private key of this public one. Raises RefusedError when it can sign nothing."""
    message = _PREFIX + os.urandom(16)
    more = "" if file == IDENTITY else f", {file!r}"
    try:
        HostVerifier(public_key).verify(message, bytes.fromhex(board.exec(_CHALLENGE.format(message=message, more=more)).strip()))
    except ProtocolError:
        return False
    return True


def forgive_interruption(board: Board) -> None:
    """The start that we interrupted counts for nothing: three short ones in a row would be a boot loop, and mean safe mode."""
    board.exec(_FORGIVE)
