"""A stolen cabinet's login: the city ends it at its broker, for that gateway alone; what the gateway holds waits (R29)."""

import asyncio
import io
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from lamppost_gateway import log

LAMP = [1, 0, 0, 60, 60, 472, 2301, 210, 980, 12345, 1, 0]
CONTROL = "$CONTROL/dynamic-security/v1"
#: What the promise gives the broker, from the city's word on.
REFUSED_WITHIN_S = 60.0
ADMIN = ("admin", "password-of-the-citys-admin")


class Accounts:
    """The broker's accounts as the city keeps them: mosquitto's dynamic security plugin, which Debian's package brings."""

    def __init__(self, folder: Path, broker: Any) -> None:
        plugins = sorted(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))
        if not plugins:
            pytest.skip("mosquitto has no dynamic security plugin here")
        path = folder / "accounts.json"
        subprocess.run(["mosquitto_ctrl", "dynsec", "init", str(path), *ADMIN], check=True, capture_output=True, timeout=30)
        broker.add(f"plugin {plugins[0]}\nplugin_opt_config_file {path}", anonymous=False)
        self._port = broker.port

    async def tell(self, *commands: dict[str, Any]) -> None:
        """Have the broker obey, or fail with its words."""
        async with aiomqtt.Client("127.0.0.1", self._port, username=ADMIN[0], password=ADMIN[1]) as admin, asyncio.timeout(20):
            await admin.subscribe(CONTROL + "/response", qos=1)
            await admin.publish(CONTROL, json.dumps({"commands": commands}), qos=1)
            async for message in admin.messages:
                answers = json.loads(message.payload)["responses"]
                assert [answer.get("error") for answer in answers] == [None] * len(commands), answers
                return

    async def add_gateway(self, name: str, password: str, lacks: str = "") -> None:
        """One login a gateway, with the rights that MQTT.md names but one."""
        root = "lamppost/v1/+"
        written = [f"{root}/node/#", f"{root}/gateway/{name}/#", f"{root}/order/+/state"]
        heard = [f"{root}/order/signed", f"{root}/beacon/signed", f"{root}/release/+"]
        heard = [topic for topic in heard if topic != f"{root}/{lacks}"]
        acls = [{"acltype": "publishClientSend", "topic": topic, "allow": True} for topic in written]
        acls += [
            {"acltype": kind, "topic": topic, "allow": True} for topic in heard for kind in ("subscribePattern", "publishClientReceive")
        ]
        await self.tell(
            {"command": "createRole", "rolename": name, "acls": acls},
            {"command": "createClient", "username": name, "password": password, "roles": [{"rolename": name}]},
        )


@pytest.mark.mosquitto
def test_a_revoked_gateway_is_thrown_out_and_stays_out(bench: Any, mosquitto: Any, tmp_path: Path) -> None:
    """One word of the city ends its session and every later login; another gateway goes on; nothing stored is lost by it."""
    accounts = Accounts(tmp_path, mosquitto)
    mosquitto.start()
    (tmp_path / "stolen").mkdir()
    secret = tmp_path / "stolen/password"
    secret.touch(0o600)
    secret.write_text("secret-of-gw-1")
    street = bench.Street(tmp_path / "stolen", mosquitto.port, f'username = "gw-1"\npassword_file = "{secret}"')

    async def test() -> None:
        for name in ("gw-1", "gw-2"):
            await accounts.add_gateway(name, f"secret-of-{name}")
        async with (
            aiomqtt.Client("127.0.0.1", mosquitto.port, username="gw-2", password="secret-of-gw-2") as other,
            street.running(),
        ):
            await bench.until(lambda: street.publisher.state == "connected")
            await street.commit(street.nodes[0x11].frame(LAMP))
            await street.until_marked()
            told_s = time.monotonic()
            await accounts.tell({"command": "disableClient", "username": "gw-1"})
            await bench.until(lambda: street.publisher.state != "connected", REFUSED_WITHIN_S)
            with pytest.raises(aiomqtt.MqttError):
                async with aiomqtt.Client("127.0.0.1", mosquitto.port, username="gw-1", password="secret-of-gw-1"):
                    pass
            assert time.monotonic() - told_s < REFUSED_WITHIN_S
            await street.commit(street.nodes[0x11].frame(LAMP))
            await bench.until(lambda: "refus" in (street.publisher.last_error or "") or "uthori" in (street.publisher.last_error or ""))
            assert "secret-of-gw-1" not in street.publisher.last_error
            assert (await street.store.read(street.store.outbox.counts)).unpublished == 1
            await other.publish("lamppost/v1/000a11ce/gateway/gw-2/health", b"{}", qos=1)
            await accounts.tell({"command": "enableClient", "username": "gw-1"})
            await bench.until(street_is_empty, REFUSED_WITHIN_S)

    async def street_is_empty() -> bool:
        return bool((await street.store.read(street.store.outbox.counts)).unpublished == 0)

    bench.run(test)


@pytest.mark.mosquitto
def test_a_login_of_before_there_were_releases_goes_on_without_them(bench: Any, mosquitto: Any, tmp_path: Path) -> None:
    """Its rights do not name them: a warning says so, and records and orders flow as ever."""
    accounts = Accounts(tmp_path, mosquitto)
    mosquitto.start()
    secret = tmp_path / "password"
    secret.touch(0o600)
    secret.write_text("secret-of-gw-1")
    street = bench.Street(tmp_path, mosquitto.port, f'username = "gw-1"\npassword_file = "{secret}"')
    said = io.StringIO()
    log.set_up("warning", said)

    async def test() -> None:
        await accounts.add_gateway("gw-1", "secret-of-gw-1", lacks="release/+")
        async with street.running():
            await bench.until(lambda: street.publisher.state == "connected")
            await street.commit(street.nodes[0x11].frame(LAMP))
            await street.until_marked()
            assert "event=subscription_refused topic=lamppost/v1/000a11ce/release/+" in said.getvalue()
            assert said.getvalue().count("subscription_refused") == 1

    bench.run(test)
