"""The gateway's configuration: one TOML file, every key with a default where one is possible.

All problems are reported at once, each with its line. Secrets are only ever named by file, and a secret file that
others may read is refused. Nothing here opens the secrets' content except `read_secret`, when it is needed.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from lamppost_protocol.errors import LocalError
from lamppost_protocol.es256_host import HostVerifier
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lamppost_gateway.config_air import AirConfig
from lamppost_gateway.errors import ConfigError, Problem


def default_state_dir() -> Path:
    """`/var/lib/lamppost` for root, else `$XDG_STATE_HOME/lamppost` (`~/.local/state/lamppost`)."""
    if os.geteuid() == 0:
        return Path("/var/lib/lamppost")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "lamppost"


def _hex_int(value: object) -> object:
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9a-f]{8}", value):
            raise ValueError("must be 8 lower-case hex digits in quotes")
        return int(value, 16)
    raise ValueError("must be 8 lower-case hex digits in quotes")


def _hex_bytes(length: int) -> BeforeValidator:
    def parse(value: object) -> object:
        if value is None or isinstance(value, bytes):
            return value
        if not isinstance(value, str) or not re.fullmatch(rf"[0-9a-f]{{{2 * length}}}", value):
            raise ValueError(f"must be {2 * length} lower-case hex digits in quotes")
        return bytes.fromhex(value)

    return BeforeValidator(parse)


def _on_curve(key: bytes) -> bytes:
    try:
        HostVerifier(key)
    except LocalError:
        raise ValueError("not a P-256 public key; copy public_key of authority-public.json") from None
    return key


class _Section(BaseModel):
    # hide_input_in_errors: a password typed into the wrong place must not reach a message
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class GatewayConfig(_Section):
    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$", description="name of this gateway in topics and logs")]
    network: Annotated[int, BeforeValidator(_hex_int), Field(description="the city's network id, 8 hex digits")]
    state_dir: Annotated[Path, Field(description="folder of outbox, registry and sockets")] = Field(default_factory=default_state_dir)
    registry: Annotated[Path, Field(description="who is known, with public keys")] = Path("registry.json")
    hop_keys: Annotated[Path, Field(description="acknowledgement keys, mode 0600")] = Path("hop-keys.json")
    authority_public_key: Annotated[
        bytes, _hex_bytes(64), AfterValidator(_on_curve), Field(description="public_key of authority-public.json: x and y, 128 hex digits")
    ]
    authority_id: Annotated[
        bytes | None, _hex_bytes(4), Field(description="issuer of authority-public.json, 8 hex digits; unset: not compared")
    ] = None


class LinkConfig(_Section):
    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$", description="name in logs, metrics and stored frames")]
    type: Annotated[str, Field(pattern="^serial$", description="kind of link")] = "serial"
    path: Annotated[Path, Field(description="the port, best a /dev/serial/by-id/ name")]
    baud: Annotated[int, Field(ge=300, le=4_000_000, description="bits per second")] = 115_200


class BrokerConfig(_Section):
    host: Annotated[str, Field(min_length=1, description="the city's MQTT broker")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535, description="its port; 8883 is usual with TLS")] = 1883
    tls: Annotated[bool, Field(description="encrypt and check the broker's certificate")] = False
    ca: Annotated[Path | None, Field(description="certificates to trust; unset: the system's")] = None
    cert: Annotated[Path | None, Field(description="this gateway's certificate")] = None
    key: Annotated[Path | None, Field(description="its private key, mode 0600 or 0400")] = None
    username: Annotated[str | None, Field(description="login name")] = None
    password_file: Annotated[Path | None, Field(description="file holding the password, mode 0600 or 0400")] = None

    def password(self) -> str | None:
        """The password, read anew at each call so that it lives in no object; None when there is none.

        Raises ConfigError when the file is missing or open to others.
        """
        if self.password_file is None:
            return None
        return read_secret(self.password_file).rstrip("\r\n")


class OutboxConfig(_Section):
    commit_window_ms: Annotated[int, Field(ge=0, le=1_000, description="least time between two disk commits")] = 20
    retention_h: Annotated[int, Field(ge=0, le=8_760, description="hours a delivered frame is kept")] = 24
    max_mb: Annotated[int, Field(ge=1, le=1_000_000, description="disk budget of the outbox in MB")] = 1_024
    drain_per_s: Annotated[int, Field(ge=1, le=100_000, description="back-fill frames sent per second")] = 1_000
    in_flight: Annotated[int, Field(ge=1, le=10_000, description="messages sent but not confirmed, at most")] = 100
    late_s: Annotated[int, Field(ge=1, le=86_400, description="older records on arrival are back-fill")] = 120


class MetricsConfig(_Section):
    host: Annotated[str, Field(min_length=1, description="address the metrics page listens on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535, description="its port; 0 means no page")] = 0


class StatusConfig(_Section):
    socket: Annotated[Path, Field(description="local socket of `lamppost-gateway status`")] = Path("status.sock")


class RejectsConfig(_Section):
    keep_days: Annotated[int, Field(ge=1, le=365, description="days a refused frame is kept")] = 7
    keep_count: Annotated[int, Field(ge=1, le=1_000_000, description="refused frames kept at most")] = 10_000


class Config(_Section):
    """The whole file. Relative paths are relative to `state_dir`; `state_dir` itself to the file's folder."""

    gateway: GatewayConfig
    link: list[LinkConfig] = Field(default_factory=list)
    air: AirConfig | None = None
    broker: BrokerConfig = BrokerConfig()
    outbox: OutboxConfig = OutboxConfig()
    metrics: MetricsConfig = MetricsConfig()
    status: StatusConfig = StatusConfig()
    rejects: RejectsConfig = RejectsConfig()

    @property
    def links(self) -> list[LinkConfig]:
        return self.link

    @property
    def outbox_path(self) -> Path:
        return self.gateway.state_dir / "outbox.db"

    @model_validator(mode="after")
    def _links_differ(self) -> Self:
        for what in ("name", "path"):
            seen: set[str] = set()
            for link in self.link:
                text = str(getattr(link, what))
                if text in seen:
                    raise ValueError(f"two links share the {what} {text}")
                seen.add(text)
        return self

    @model_validator(mode="after")
    def _tls_fits(self) -> Self:
        if not self.broker.tls and (self.broker.ca or self.broker.cert or self.broker.key):
            raise ValueError("broker: ca, cert and key mean nothing without tls = true")
        if (self.broker.cert is None) != (self.broker.key is None):
            raise ValueError("broker: cert and key belong together")
        return self


def check_secret_file(path: Path) -> str | None:
    """Why a secret file cannot be used, or None. It must be a regular file that only its owner may read or write."""
    try:
        status = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return f"{path}: not a regular file"
    if stat.S_IMODE(status.st_mode) & 0o177:
        return f"{path}: mode {stat.S_IMODE(status.st_mode):04o} lets others in; run: chmod 600 {path}"
    if status.st_uid not in (0, os.geteuid()):
        return f"{path}: belongs to another user"
    return None


def read_secret(path: Path) -> str:
    """The text of a secret file after its mode was checked. Raises ConfigError, without any content."""
    problem = check_secret_file(path)
    if problem is None:
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            problem = f"{path}: {error.strerror}"
        except UnicodeDecodeError:
            problem = f"{path}: not text"
    raise ConfigError(str(path), [Problem("", problem)]) from None


def load(path: Path) -> Config:
    """Read and check the file at `path`. Raises ConfigError with everything that is wrong, not just the first."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), [Problem("", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), [Problem("", "is not text in UTF-8")]) from None
    return parse(text, str(path), path.resolve().parent)


def parse(text: str, source: str, folder: Path) -> Config:
    """Check the text of a configuration file that stands in `folder`. Raises ConfigError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        plain = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError(source, [Problem("", plain, int(found[1]) if found else None)]) from None
    lines = key_lines(text)
    problems: list[Problem] = []
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False, include_context=False):
            where = tuple(part for part in item["loc"] if isinstance(part, str | int))
            problems.append(Problem(_dotted(where), item["msg"].removeprefix("Value error, "), _line_of(where, lines)))
        raise ConfigError(source, problems) from None
    config = _absolute(config, folder)
    for keys, secret in (
        (("broker", "password_file"), config.broker.password_file),
        (("broker", "key"), config.broker.key),
    ):
        if secret is not None and (why := check_secret_file(secret)) is not None:
            problems.append(Problem(_dotted(keys), why, _line_of(keys, lines)))
    if config.air is not None:
        taken = {link.name for link in config.links} & {config.air.name, *(modem.name for modem in config.air.modem)}
        shared: list[tuple[tuple[str | int, ...], str]] = [(("name",), f"a link has this name too: {name}") for name in sorted(taken)]
        for where, why in shared + config.air.problems():
            problems.append(Problem(_dotted(("air", *where)), why, _line_of(("air", *where), lines)))
    if problems:
        raise ConfigError(source, problems)
    return config


def _absolute(config: Config, folder: Path) -> Config:
    state_dir = folder / config.gateway.state_dir
    gateway = config.gateway.model_copy(
        update={
            "state_dir": state_dir,
            "registry": state_dir / config.gateway.registry,
            "hop_keys": state_dir / config.gateway.hop_keys,
        }
    )
    broker = config.broker.model_copy(
        update={
            name: state_dir / item for name in ("ca", "cert", "key", "password_file") if (item := getattr(config.broker, name)) is not None
        }
    )
    return config.model_copy(
        update={
            "gateway": gateway,
            "broker": broker,
            "link": [link.model_copy(update={"path": state_dir / link.path}) for link in config.link],
            "air": _absolute_air(config.air, state_dir),
            "status": config.status.model_copy(update={"socket": state_dir / config.status.socket}),
        }
    )


def _absolute_air(air: AirConfig | None, state_dir: Path) -> AirConfig | None:
    if air is None:
        return None
    modems = [modem.model_copy(update={"path": None if modem.path is None else state_dir / modem.path}) for modem in air.modem]
    return air.model_copy(update={"modem": modems})


def key_lines(text: str) -> dict[tuple[str | int, ...], int]:
    """Line number (from 1) of every plain table header and key of a TOML text that is known to be valid."""
    lines: dict[tuple[str | int, ...], int] = {}
    counts: dict[str, int] = {}
    table: tuple[str | int, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[\s*([\w.-]+)\s*\]\]", line):
            counts[header[1]] = counts.get(header[1], -1) + 1
            table = (*header[1].split("."), counts[header[1]])
            lines.setdefault(table, number)
        elif header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            table = tuple(header[1].split("."))
            lines.setdefault(table, number)
        elif key := re.match(r"\s*([\w-]+)\s*(?:\.[\w.-]+\s*)?=", line):
            lines.setdefault((*table, key[1]), number)
    return lines


def _line_of(where: tuple[str | int, ...], lines: Mapping[tuple[str | int, ...], int]) -> int | None:
    for length in range(len(where), 0, -1):
        if (line := lines.get(where[:length])) is not None:
            return line
    return None


def _dotted(where: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in where)
