"""The authority's configuration, `authority.toml` in its own state folder; every error is told at once.

The folder holds the command key, so it belongs to the city's signer alone: never on a gateway, never in a cabinet.
"""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lamppost_tools.broker import BrokerSettings
from lamppost_tools.errors import MissingError, UsageError

SETTINGS_NAME = "authority.toml"
KEY_NAME = "key.pem"
COUNTERS_NAME = "counters.json"
ORDERS_LOG_NAME = "signed-orders.jsonl"
RELEASES_LOG_NAME = "signed-releases.jsonl"
TICKETS_LOG_NAME = "signed-tickets.jsonl"
LOCK_NAME = "lock"
PUBLIC_NAME = "authority-public.json"


class IdentitySettings(BaseModel):
    """Who signs. `registry` is public data; relative paths start at the state folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: str = Field(pattern=r"^[0-9a-f]{8}$")
    issuer: str = Field(pattern=r"^[0-9a-f]{8}$")
    registry: Path = Path("../gateway/registry.json")
    passphrase_file: Path | None = None


class LimitSettings(BaseModel):
    """What the authority refuses to sign, whoever asks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default_lease_s: int = Field(default=3600, ge=1)
    max_lease_s: int = Field(default=43_200, ge=1, le=7 * 86_400)
    max_start_ahead_s: int = Field(default=7 * 86_400, ge=0)
    delivery_window_s: int = Field(default=86_400, ge=60)
    clock_slack_s: int = Field(default=5, ge=0, le=600)
    dark_below_percent: int = Field(default=10, ge=0, le=100)
    max_dark_orders_per_hour: int = Field(default=20, ge=0)
    min_safe_level_percent: int = Field(default=100, ge=20, le=100)
    configurations_per_hour_per_node: int = Field(default=6, ge=0)
    orders_per_minute_per_node: int = Field(default=12, ge=1)
    beacons_per_minute_per_node: int = Field(default=12, ge=1)
    tickets_per_minute_per_node: int = Field(default=6, ge=1)


class BeaconSettings(BaseModel):
    """How often city time is told to everybody; a node that asks with a nonce is answered at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interval_s: int = Field(default=600, ge=1, le=86_400)


class TechnicianSettings(BaseModel):
    """Who may have tickets over the broker: the key in his `technician-public.json`, and which verbs at a node's line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=80)
    key: str = Field(pattern=r"^[0-9a-f]{128}$")
    scopes: list[Literal["look", "test", "light", "restart", "configure", "resend"]]


class AuthoritySettings(BaseModel):
    """The whole of `authority.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    authority: IdentitySettings
    broker: BrokerSettings = BrokerSettings()
    limits: LimitSettings = LimitSettings()
    beacon: BeaconSettings = BeaconSettings()
    technician: list[TechnicianSettings] = []


def load_settings(state_folder: Path) -> AuthoritySettings:
    """Read `authority.toml`. Raises MissingError, or UsageError naming every wrong key at once."""
    path = state_folder / SETTINGS_NAME
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise MissingError(f"{path} does not exist", f"run: lamppost authority init --state {state_folder}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", "correct that line") from None
    try:
        return AuthoritySettings.model_validate(raw)
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise UsageError("\n".join([f"{path} has {len(lines)} error(s):", *lines]), "correct these keys") from None


def settings_text(network: int, issuer: int, registry: Path, broker: BrokerSettings) -> str:
    """A first `authority.toml`, with every limit written out so that it can be found."""
    limits = "\n".join(f"{name} = {field.default}" for name, field in LimitSettings.model_fields.items())
    return f"""# The city's signer. This folder holds the command key: keep it off every gateway.
[authority]
network = "{network:08x}"
issuer = "{issuer:08x}"          # key id in every order and beacon; random, made with the key
registry = "{registry}"

[broker]
host = "{broker.host}"
port = {broker.port}
tls = {str(broker.tls).lower()}

[limits]
{limits}

[beacon]
interval_s = {BeaconSettings().interval_s}

# Who may have service tickets over the broker, and for what; repeat it. The key stands in his technician-public.json.
# [[technician]]
# name = "R. Laub"
# key = "..."
# scopes = ["look", "test", "light"]     # also: restart, configure, resend
"""
