"""The metrics page: declared names only, bounded labels, no strangers, served on loopback."""

import asyncio
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from lamppost_gateway import metrics as room
from lamppost_gateway.config import MetricsConfig
from lamppost_gateway.metrics import Metrics
from prometheus_client.exposition import generate_latest

_PACKAGE = Path(room.__file__).parent


def page(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def test_counters_gauges_and_times_appear() -> None:
    """Names carry the prefix and the unit."""
    metrics = Metrics()
    metrics.count("rejected", 2, reason="bad_crc")
    metrics.gauge("link_up", 1, link="line")
    metrics.observe("commit_s", 0.003)
    text = page(metrics)
    assert 'lamppost_gateway_rejected_total{reason="bad_crc"} 2.0' in text
    assert 'lamppost_gateway_link_up{link="line"} 1.0' in text
    assert 'lamppost_gateway_commit_seconds_bucket{le="0.005"} 1.0' in text


def test_unbounded_labels_are_folded_into_other() -> None:
    """Whatever makes up names, the page stays small."""
    metrics = Metrics()
    for number in range(5000):
        metrics.count("frames_received", link=f"line-{number}")
    lines = [line for line in page(metrics).splitlines() if line.startswith("lamppost_gateway_frames_received_total{")]
    assert len(lines) <= 401
    assert 'lamppost_gateway_frames_received_total{link="other"} 4600.0' in lines


@pytest.mark.parametrize(
    ("method", "name", "labels"),
    [
        ("count", "no_such", {}),
        ("count", "rejected", {}),
        ("count", "rejected", {"reason": "x", "node": "00000001"}),
        ("gauge", "no_such", {}),
        ("observe", "no_such", {}),
    ],
)
def test_undeclared_names_are_noted_and_harm_nothing(method: str, name: str, labels: dict[str, str]) -> None:
    """A typing mistake on a hot path must not stop the gateway; the tests find it."""
    metrics = Metrics()
    getattr(metrics, method)(name, *([] if method == "count" else [1.0]), **labels)
    assert metrics.undeclared == {name}


def test_every_metric_used_in_the_gateway_is_declared() -> None:
    """Reads the package: each name given to count, gauge and observe stands in the tables, with the same labels."""
    call = re.compile(r'metrics?\.(count|gauge|observe)\(\s*"(\w+)"([^)]*)\)|\bgauge\("(\w+)"')
    tables = {"count": room._COUNTERS, "gauge": room._GAUGES, "observe": room._HISTOGRAMS}
    used = set()
    for path in sorted(_PACKAGE.rglob("*.py")):
        for kind, name, rest, bare in call.findall(path.read_text(encoding="utf-8")):
            kind, name = (kind, name) if name else ("gauge", bare)
            used.add(name)
            assert name in tables[kind], f"{path.name}: {kind} {name}"
            if kind != "observe" and not bare:
                labels = set(re.findall(r"\b(\w+)=", rest))
                assert labels <= set(tables[kind][name][1]), f"{path.name}: {name} {labels}"
    assert len(used) > 30, "the pattern no longer finds the calls"


def test_page_is_served_on_loopback_and_ends_with_the_task(bench: Any) -> None:
    """One page over HTTP while the task runs; the port is free again afterwards."""
    config = MetricsConfig(port=bench.free_port())

    async def test() -> None:
        metrics = Metrics()
        metrics.count("beacons", result="sent")
        for _ in range(2):
            task = asyncio.create_task(metrics.run(config))
            await bench.until(lambda: fetched(config.port))
            task.cancel()
            await asyncio.wait([task], timeout=5)
            assert task.cancelled()

    async def fetched(port: int) -> bool:
        def fetch() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())

        try:
            return 'lamppost_gateway_beacons_total{result="sent"} 1.0' in await asyncio.to_thread(fetch)
        except OSError:
            return False

    bench.run(test)


def test_no_page_without_a_port(bench: Any) -> None:
    """Port 0, the default, serves nothing and ends when cancelled."""

    async def test() -> None:
        task = asyncio.create_task(Metrics().run(MetricsConfig()))
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task], timeout=5)

    bench.run(test)
