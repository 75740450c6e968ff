"""Where an operator's commands go: network and broker, from a small `city.toml`, overridden by options."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lamppost_tools.broker import BrokerSettings
from lamppost_tools.errors import MissingError, UsageError

CITY_NAME = "city.toml"
_ADVICE = "a running `lamppost demo --state DIR` writes one to DIR/city.toml; or give --network and --broker-port"


class _CityFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    network: str = Field(pattern=r"^[0-9a-f]{8}$")
    broker: BrokerSettings = BrokerSettings()


@dataclass(frozen=True)
class City:
    """One network on one broker."""

    network: int
    broker: BrokerSettings


def find_city(path: Path | None, network: str | None, host: str | None, port: int | None) -> City:
    """The city meant by file and options; options win. Raises UsageError, MissingError."""
    found = _load(path) if path is not None else None
    name = network or (found.network if found else None)
    if name is None:
        raise UsageError("which network?", _ADVICE)
    try:
        number = int(name, 16)
    except ValueError:
        raise UsageError(f"network {name!r}: 8 hex digits are meant", _ADVICE) from None
    broker = found.broker if found else BrokerSettings()
    changed = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    return City(number, broker.model_copy(update=changed))


def _load(path: Path) -> _CityFile:
    try:
        return _CityFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise MissingError(f"{path} does not exist", _ADVICE) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", _ADVICE) from None
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise UsageError("\n".join([f"{path} has {len(lines)} error(s):", *lines]), _ADVICE) from None
