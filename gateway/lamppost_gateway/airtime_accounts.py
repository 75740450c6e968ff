"""The airtime that each modem has spent in the downlink's sub-band, kept in the gateway's state across restarts. WIRE.md 13.

One file, replaced whole; written ahead, an eighth of the allowance at a time, a few times an hour. A modem without an account starts
spent: nobody knows what its antenna did in the last hour, so it is silent for one, unless a person says that it sent nothing (`forget`).
Beside it, and not kept, is what pieces of releases have taken: they have a share, that acknowledgements and orders find the rest.
Known gap: the write is on the event loop and waits for the disk.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lamppost_protocol.errors import LocalError
from lamppost_protocol.ledger import HOUR_MS, Ledger
from lamppost_protocol.regions import Band, reserve_us

from lamppost_gateway.log import Trouble, event, room

FILE = "airtime.json"
_UNBOUND_SHARE_US = HOUR_MS * 1000 // 10  # of pieces, where the law sets no bound: who speaks does not hear
_log = room("air")


class AirtimeAccounts:
    """One ledger a modem, where the law limits the sub-band at all. Call within the running loop: its clock is the ledgers'."""

    def __init__(self, path: Path, band: Band, modems: Iterable[str]) -> None:
        self._path = path
        self._band = band
        self._kept_us = _read(path)
        self._ledgers: dict[str, Ledger] = {}
        self._trouble = Trouble(_log, "airtime_account", path=path)
        share_us, window_ms = _UNBOUND_SHARE_US, HOUR_MS
        if band.airtime_us is not None:
            share_us, window_ms = (band.airtime_us - reserve_us(band)) // 2, band.window_ms
        self._shares = {modem: Ledger(share_us, window_ms, kept_us=0) for modem in modems}
        if band.airtime_us is None:
            return
        for modem in modems:
            kept_us = self._kept_us.get(self._key(modem))
            keep = functools.partial(self._keep, modem)
            ledger = Ledger(band.airtime_us, band.window_ms, reserve_us(band), kept_us, keep)
            ledger.wait_ms(0, _now_ms(), is_urgent=True)  # its time begins now, not with the first transmission
            self._ledgers[modem] = ledger
            if kept_us is None:
                event(
                    _log, logging.WARNING, "airtime_unknown", modem=modem, silent_min=band.window_ms // 60_000,
                    advice="if this antenna has sent nothing for that long: lamppost-gateway airtime --unspent",
                )  # fmt: skip

    def _key(self, modem: str) -> str:
        return f"{modem}/{self._band.name}"

    def is_spent(self, modem: str, airtime_us: int, is_urgent: bool, is_piece: bool = False) -> bool:
        """Charge a transmission that begins within a second; False, and nothing charged, where the law, the disk, or for a piece of a
        release its share, does not allow it.
        """
        ledger, now_ms = self._ledgers.get(modem), _now_ms()
        try:
            if is_piece and self._shares[modem].wait_ms(airtime_us, now_ms):
                return False
            if ledger is not None:
                ledger.spend(airtime_us, now_ms, is_urgent)
            if is_piece:
                self._shares[modem].spend(airtime_us, now_ms)
        except LocalError:
            return False
        except OSError as error:
            self._trouble.failed(reason=error.strerror, advice="nothing is sent by radio until the account can be written")
            return False
        self._trouble.recovered()
        return True

    def describe(self, modem: str) -> dict[str, Any]:
        """For `status`: what of the allowance is spent now."""
        ledger = self._ledgers.get(modem)
        if ledger is None:
            return {"airtime_spent_permille": None}
        ledger.wait_ms(0, _now_ms(), is_urgent=True)  # lets time pass
        return {"airtime_spent_permille": 1000 * ledger.spent_us // ledger.allowance_us}

    def _keep(self, modem: str, us: int) -> None:
        kept_us = {**self._kept_us, self._key(modem): us}
        _write(self._path, kept_us)
        self._kept_us = kept_us


def forget(path: Path, band: Band, modems: Iterable[str]) -> None:
    """A person says that these modems have sent nothing for the law's window: they start unspent. Raises OSError."""
    _write(path, {**_read(path), **{f"{modem}/{band.name}": 0 for modem in modems}})


def _now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)


def _read(path: Path) -> dict[str, int]:
    """What was kept; a file that is damaged or missing holds nothing, and everything counts as spent."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {key: us for key, us in document.items() if isinstance(us, int) and not isinstance(us, bool) and us >= 0}


def _write(path: Path, kept_us: dict[str, int]) -> None:
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        json.dump(kept_us, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
