"""Parsing of `lamppost kit ...`."""

from pathlib import Path
from typing import Annotated

import typer

from lamppost_tools import terminal
from lamppost_tools.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="One folder with everything for work without a network.")

KEY_NAME, PUBLIC_NAME = "key.pem", "kit-public.json"
_PASSPHRASE = typer.Option(help="encrypts the key; the file must have mode 0600")


@app.command("init-key", epilog="Example: lamppost kit init-key --state kit-key --passphrase-file /etc/lamppost/kit-passphrase")
def init_key(
    state: Annotated[Path, typer.Option(help="folder for the key; made with mode 0700; it signs kits and nothing else")],
    passphrase_file: Annotated[Path | None, _PASSPHRASE] = None,
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Make the key that vouches for kits. Technicians pin its public half: `lamppost technician init --kit-key`."""
    from lamppost_protocol.es256_host import public_key

    from lamppost_tools.durable import write_json
    from lamppost_tools.key_file import read_passphrase, save_key
    from lamppost_tools.node.enrol import KeySource
    from lamppost_tools.signed_document import fingerprint

    passphrase = None if passphrase_file is None else read_passphrase(passphrase_file)
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o700)
    private_key = KeySource().private_key()
    save_key(state / KEY_NAME, private_key, passphrase)
    public = public_key(private_key)
    write_json(state / PUBLIC_NAME, {"kit_key": public.hex()})
    made = {"kit_key": public.hex(), "fingerprint": fingerprint(public), "public_file": str(state / PUBLIC_NAME)}
    if is_json:
        terminal.print_json(made)
        return
    terminal.print_words(made)


@app.command(
    epilog="Example: lamppost kit build --out stick/kit --key-state kit-key --image ESP32_GENERIC_C3.bin --chip esp32c3 "
    "--image-sha256 9f86... --wheels wheels"
)
def build(
    out: Annotated[Path, typer.Option(help="folder to make; it must not exist")],
    key_state: Annotated[Path, typer.Option(help="the folder that `lamppost kit init-key` made")],
    image: Annotated[list[Path] | None, typer.Option(help="MicroPython for a chip, as downloaded; repeat it, each with --chip")] = None,
    chip: Annotated[list[str] | None, typer.Option(help="which chip that image is for: esp32, esp32c3, esp32s3 ...")] = None,
    image_sha256: Annotated[list[str] | None, typer.Option(help="its SHA-256 in hex as its publisher gives it")] = None,
    wheels: Annotated[Path | None, typer.Option(help="folder with the libraries' wheels (pip download); left out: they are named")] = None,
    passphrase_file: Annotated[Path | None, _PASSPHRASE] = None,
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Make a kit in a checkout: firmware as files and as ROMFS, interpreters, this tool as a wheel, bill of materials, licences."""
    from lamppost_tools.key_file import load_key, read_passphrase
    from lamppost_tools.kit.build import Image, build_kit

    counts = [len(given or []) for given in (image, chip, image_sha256)]
    if len(set(counts)) != 1:
        raise UsageError("each --image needs its --chip and its --image-sha256", "see `lamppost kit build --help`")
    images = [Image(*given) for given in zip(image or [], chip or [], image_sha256 or [], strict=True)]
    passphrase = None if passphrase_file is None else read_passphrase(passphrase_file)
    private_key = load_key(key_state / KEY_NAME, passphrase)
    made = build_kit(out, private_key, images, wheels, lambda text: None if is_json else terminal.err.print(text))
    if is_json:
        terminal.print_json(made)
        return
    terminal.print_words({key: value for key, value in made.items() if key != "images"})
    if not images:
        terminal.out.print("no --image: boards must have MicroPython already")
    if made["missing_wheels"]:
        terminal.out.print(
            "the laptop in the street must have the missing libraries already; pip download and --wheels put them into a kit"
        )


@app.command(epilog="Example: lamppost kit verify stick/kit --technician technician")
def verify(
    folder: Annotated[Path, typer.Argument(metavar="KIT", help="the kit's folder")],
    technician: Annotated[Path, typer.Option(help="the folder that `lamppost technician init` made", envvar="LAMPPOST_TECHNICIAN")],
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Check every octet of a kit against the key that you have pinned. Ends with 1 and the file's name when something differs."""
    from lamppost_tools.kit.seal import open_kit
    from lamppost_tools.signed_document import fingerprint
    from lamppost_tools.technician.settings import load_technician

    known = load_technician(technician)
    kit = open_kit(folder, known.kit_key)
    found = {
        "verdict": "valid",
        "kit": str(folder),
        "signed_by": fingerprint(known.kit_key),
        "lamppost": kit.manifest["lamppost"],
        "files": len(kit.files),
        "missing_wheels": kit.manifest["missing_wheels"],
    }
    if is_json:
        terminal.print_json(found)
    else:
        terminal.print_words(found)
