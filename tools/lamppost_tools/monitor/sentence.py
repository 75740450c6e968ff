"""What was decoded, as one line for eyes that follow many: who, what, which values, whether it is proved. Pure."""

from typing import Any

from lamppost_tools.terminal import measured

#: Beside a reading these say nothing to somebody who watches.
_LEFT_OUT = {"what", "verdict", "detail", "bytes", "type", "algorithm", "digest", "tx", "kid", "serial_message", "packet_bytes", "network"}


def lines_of(entry: dict[str, Any]) -> list[str]:
    """One line for each record of an uplink, else one line."""
    proof = _proof(entry)
    if entry.get("what") == "uplink":
        head = f"{entry['node']}{_way(entry)}"
        return [f"{head} {_record(record)}{proof}" for record in entry["records"]]
    if entry.get("what") == "log":
        return [f"log: {entry['text']}"]
    words = [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in entry.items() if _is_told(name, value)]
    return [f"{entry.get('what', 'message')}: {', '.join(words)}{proof}"]


def _record(record: dict[str, Any]) -> str:
    values = record["values"]
    told = values if isinstance(values, list) else [f"{name.replace('_', ' ')} {measured(value)}" for name, value in values.items()]
    when = record.get("time") or record.get("when", "")
    return f"{record['fixture']} n {record['n']} {when} {record['quality']}: {', '.join(str(one) for one in told)}"


def _way(entry: dict[str, Any]) -> str:
    if "rssi_dbm" not in entry:
        return ""
    return f" (SF{entry['spreading_factor']}, {entry['rssi_dbm']} dBm)"


def _proof(entry: dict[str, Any]) -> str:
    verdict = entry.get("verdict", "")
    if verdict == "refused":
        return f"  REFUSED {entry['reason']}: {entry['detail']}"
    return f"  {verdict}" if verdict else ""


def _is_told(name: str, value: Any) -> bool:
    return name not in _LEFT_OUT and name != "reason" and value is not None


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name.replace('_', ' ')} {_plain(one)}" for name, one in value.items())
    if isinstance(value, list):
        return " ".join(_plain(one) for one in value) or "none"
    return str(value)
