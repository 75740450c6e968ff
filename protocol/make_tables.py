"""Writes the generator's comb tables for a node image: `python protocol/make_tables.py --out DIR`.

Tables are made, never committed: the numbers follow from the curve, and a test checks each against it.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # works from a plain checkout, before any install

from lamppost_protocol.p256_tables import build_generator_table

TABLES = (("generator_2k.tbl", 5, 2), ("generator_8k.tbl", 6, 4))


def write_tables(directory: Path) -> list[Path]:
    """Write both tables into `directory`, made if absent; gives their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, teeth, blocks in TABLES:
        path = directory / name
        path.write_bytes(build_generator_table(teeth, blocks))
        paths.append(path)
    return paths


def main(arguments: list[str] | None = None) -> int:
    """Command line; status 0 when the tables are written."""
    parser = argparse.ArgumentParser(
        description="Write the P-256 generator's comb tables: 2 KB for a heap, 8 KB for flash.",
        epilog="example: python protocol/make_tables.py --out build/tables",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into, made if absent")
    for path in write_tables(parser.parse_args(arguments).out):
        print(f"{path} {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
