"""An example of the gateway's configuration, made from the models in config.py and config_air.py."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from lamppost_gateway.config import Config, LinkConfig
from lamppost_gateway.config_air import AirConfig, ModemConfig


def example() -> str:
    """A complete configuration file: every key with its meaning and default, made from the models above."""
    out = ["# Lamppost gateway. Keys without a value after `=` are required; the others show their default."]
    for name, field in Config.model_fields.items():
        if name == "link":
            out += ["\n[[link]]", *_example_keys(LinkConfig)]
        elif name == "air":
            out += ["\n# Nodes on LoRa. Without them leave all of this out.", "#[air]", *_example_keys(AirConfig)]
            out += ["\n#[[air.modem]]", *_example_keys(ModemConfig)]
        else:
            model: Any = field.annotation
            out += [f"\n[{name}]", *_example_keys(model)]
    return "\n".join(out) + "\n"


def _example_keys(model: type[BaseModel]) -> list[str]:
    out = []
    for key, item in model.model_fields.items():
        if item.annotation == list[ModemConfig]:
            continue  # a table of its own
        out.append(f"# {item.description}")
        default = item.get_default(call_default_factory=True)
        if item.is_required():
            out.append(f"#{key} =")
        elif default is None:
            out.append(f"#{key} =            # unset")
        elif isinstance(default, bool | int | list):
            out.append(f"#{key} = {json.dumps(default)}")
        else:
            out.append(f'#{key} = "{default}"')
    return out
