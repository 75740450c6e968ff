"""Telling systemd that the gateway is ready and alive: one datagram, no library. Ref: sd_notify(3).

Without NOTIFY_SOCKET in the environment, as outside systemd, everything here does nothing.
"""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send one state line such as `READY=1`; a service manager that does not listen is no error of ours."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or address[0] not in "/@":
        return
    if address[0] == "@":
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto(state.encode(), address)
    except OSError:
        pass


def watchdog_s() -> float | None:
    """How often to send `WATCHDOG=1`: half of what the unit allows; None when it does not ask."""
    try:
        allowed_us = int(os.environ.get("WATCHDOG_USEC", ""))
        owner = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return None
    return allowed_us / 2_000_000 if allowed_us > 0 and owner == os.getpid() else None
