"""A technician at a node's line, and everybody who would like to be one: the firmware's bytecode in virtual time (R07, R27).

What is refused moves nothing: no answer, no octet of flash, no start anew. `test_target_service.py` asks the same of every target.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lamppost_protocol import cbor, cose, frames, kinds, orders, slip, tickets
from lamppost_protocol.es256_host import HostSigner
from street.knocks import KNOCKS, PROMPTS
from street.lone_node import EPOCH, ISSUER, NETWORK, NODE, City, LoneAirNode, LoneNode
from street.technician import ALL_SCOPES, Technician

START_UNIX = 1_780_000_000
FAR_S = 86_400
CONFIG = {
    "network": NETWORK, "report_s": 3600, "health_s": 3600, "hello_s": 5, "beacon_s": 3600,
    "fixtures": [{"kind": "lamp", "instance": 0, "ramp_up_percent_per_s": 100, "ramp_down_percent_per_s": 100}],
}  # fmt: skip
#: After its first good minute a node has nothing to write for a while: here every change of its flash is somebody's doing.
QUIET_S = 80.0
ANSWER_S = 10.0
REFUSALS = 3  # in a look's value


class Visit:
    """A node on the bench and a technician at its line."""

    def __init__(self, node: LoneNode) -> None:
        self.node, self.board, self.city = node, node.board, node.city
        self.technician = Technician(node.keys.command_private)

    def say(self, body: bytes) -> None:
        """One service message."""
        self.city.say(self.board.now_s, slip.encode(slip.SERVICE, body))

    def run(self, seconds: float) -> None:
        """Let the world go on."""
        assert self.board.run(self.board.now_s + seconds), self.board.describe("no power")

    def until(self, condition: Callable[[], object], what: str, deadline_s: float = 60.0) -> None:
        """Until it holds; fails naming `what`."""
        end_s = self.board.now_s + deadline_s
        while not condition():
            assert self.board.now_s < end_s, self.board.describe(f"no {what}; answers {self.city.answers[-3:]}, log {self.city.logs[-5:]}")
            self.run(0.2)

    def answer_to(self, body: bytes, deadline_s: float = ANSWER_S) -> Any:
        """What the node says to it."""
        known = len(self.city.answers)
        self.say(body)
        self.until(lambda: len(self.city.answers) > known, "answer", deadline_s)
        return self.city.answers[-1]

    def question(self) -> tickets.Facts:
        """The facts, a moment after those before."""
        self.run(1.1)
        facts = self.answer_to(b"")
        assert isinstance(facts, tickets.Facts)
        return facts

    def ask(self, asked: int, nonce: bytes, verb: int, *arguments: Any, deadline_s: float = ANSWER_S) -> tickets.Answer:
        """A request of the technician's and its answer."""
        answer = self.answer_to(self.technician.request(asked, nonce, verb, list(arguments)), deadline_s)
        assert isinstance(answer, tickets.Answer)
        assert answer.asked == asked
        return answer

    def uses(self) -> list[list[Any]]:
        """Every service record that the city holds, signed by the node, in the order of their numbers."""
        return [record[2:] for _, record in sorted(self.city.records.items()) if record[0] == kinds.SERVICE]

    def flash(self) -> bytes:
        """All of the node's flash."""
        return self.board.flash.read_bytes()

    def is_silent_to(self, *bodies: bytes, wait_s: float = 1.0) -> None:
        """Fails where one of them is answered or moves anything."""
        before, answers = self.flash(), len(self.city.answers)
        for body in bodies:
            self.say(body)
            self.run(wait_s)
        assert self.city.answers[answers:] == []
        assert self.flash() == before


@pytest.fixture
def visit(tmp_path: Path, lock_step_image: dict[str, bytes], seed: int) -> Iterator[Visit]:
    """A node that has had its good minute, and time."""
    with LoneNode(tmp_path, lock_step_image, CONFIG, "lamp", START_UNIX, seed, on_vm=True) as node:
        made = Visit(node)
        node.board.power_on()
        made.run(QUIET_S)
        assert node.city.records
        yield made


def lamp_permille(visit: Visit) -> int:
    lamp = visit.node.cabinet.lamp
    assert lamp is not None
    return lamp.log[-1][1]


def test_a_visit_from_the_question_to_the_restart(visit: Visit) -> None:
    """Every verb does what it says, is answered, and stands in the signed history with ticket, number, verb, result and holder."""
    facts = visit.question()
    assert facts[:4] == (NETWORK, NODE, EPOCH, 0)
    assert (facts.left_s, facts.ticket, facts.asked) == (3600, 0, 0)
    nonce, me = facts.nonce, visit.technician
    accepted = visit.answer_to(me.ticket(7, nonce, valid_s=1800))
    assert (accepted.ticket, accepted.asked) == (7, 0)
    assert 1780 < accepted.left_s < 1800

    look = visit.ask(1, nonce, tickets.LOOK)
    health, clock, line, rejects, configuration, fixtures = look.value
    assert (health[1], fixtures) == (1, [kinds.LAMP])
    assert abs(clock[0] - START_UNIX - visit.board.now_s) < 3
    assert (line, rejects, configuration) == ([0, 0, 0, 0, 0], {}, "file")

    test = visit.ask(2, nonce, tickets.TEST, 20, deadline_s=30)
    ((kind, quality, *values),) = test.value
    assert (kind, quality, values[0]) == (kinds.LAMP, kinds.GOOD, 100)
    assert [kind, quality, *values] in [[record[0], *record[1:]] for record in visit.city.records.values()]

    order = visit.city.order(visit.board.now_s, orders.LEVEL, kinds.LAMP, [20, 0])
    visit.until(lambda: lamp_permille(visit) == 200, "dimmed lamp")
    assert visit.ask(3, nonce, tickets.LIGHT, 60)[1:] == (0, None)
    visit.until(lambda: lamp_permille(visit) == 1000, "full light", 10)
    visit.run(50)
    assert lamp_permille(visit) == 1000
    visit.until(lambda: lamp_permille(visit) == 200, "the order's level again", 20)
    assert visit.city.states(order)[0] == (orders.ACCEPTED, 0)

    heard = len(visit.city.heard)
    assert visit.ask(4, nonce, tickets.RESEND, 1, 1).result == 0
    visit.until(lambda: any(uplink.n == 1 for _, uplink in visit.city.heard[heard:]), "record 1 again")

    assert visit.ask(5, nonce, tickets.CONFIGURE, b"\xff").result == orders.BAD_ARGUMENTS
    assert visit.ask(6, nonce, tickets.CONFIGURE, cbor.encode({**CONFIG, "beacon_s": 1800})).result == 0
    hellos = len(visit.city.hellos)
    visit.until(lambda: len(visit.city.hellos) > hellos, "start with the new configuration")

    again = visit.question()
    assert again.nonce != nonce
    assert visit.answer_to(me.ticket(8, again.nonce, tickets.scope_of(tickets.RESTART))).ticket == 8
    assert visit.ask(1, again.nonce, tickets.RESTART)[1:] == (0, None)
    hellos = len(visit.city.hellos)
    visit.until(lambda: len(visit.city.hellos) > hellos, "start anew")
    visit.until(lambda: len(visit.uses()) == 10, "all uses")
    kid = me.kid
    assert visit.uses() == [
        [7, 0, 0, 0, kid], [7, 1, tickets.LOOK, 0, kid], [7, 2, tickets.TEST, 0, kid], [7, 3, tickets.LIGHT, 0, kid],
        [7, 4, tickets.RESEND, 0, kid], [7, 5, tickets.CONFIGURE, 0, kid], [7, 5, tickets.CONFIGURE, orders.BAD_ARGUMENTS, kid],
        [7, 6, tickets.CONFIGURE, 0, kid], [8, 0, 0, 0, kid], [8, 1, tickets.RESTART, 0, kid],
    ]  # fmt: skip


def test_nobody_else_is_served(visit: Visit) -> None:
    """Forged, misdirected, replayed, another's, beyond its scopes, cut at every octet: counted, and nothing else happens."""
    me, keys = visit.technician, visit.node.keys
    visit.is_silent_to(me.ticket(1, bytes(8)), me.request(1, bytes(8), tickets.LOOK, []), b"\x00", b"\xd2", bytes(300))
    nonce = visit.question().nonce
    scopes = tickets.scope_of(tickets.LOOK) | tickets.scope_of(tickets.LIGHT)
    good = me.ticket(5, nonce, scopes)
    payload = cose.decode(good).payload
    as_order = frames.seal(HostSigner(keys.command_private), frames.ORDER, NETWORK, NODE, EPOCH, ISSUER, 6, payload)
    infinity = me.ticket(6, nonce, holder=bytes(64))
    lies = {
        Technician(keys.foreign).ticket(5, nonce): "bad_signature",
        Technician(keys.command_private, network=NETWORK + 1).ticket(5, nonce): "bad_signature",
        Technician(keys.command_private, node=NODE + 1).ticket(5, nonce): "bad_signature",
        Technician(keys.command_private, epoch=EPOCH + 1).ticket(5, nonce): "bad_signature",
        Technician(keys.command_private, issuer=ISSUER + 1).ticket(5, nonce): "unknown_issuer",
        me.ticket(5, bytes(8)): "replayed",
        me.ticket(5, nonce, valid_s=60): "replayed",  # by then its minute is over
        me.request(1, nonce, tickets.LOOK, []): "replayed",
        as_order: "bad_signature",
        infinity: "bad_payload",
    }
    visit.run(60)
    visit.is_silent_to(*lies)
    visit.is_silent_to(*(good[:length] for length in range(1, len(good))), wait_s=0.05)

    assert visit.answer_to(good).ticket == 5
    visit.ask(1, nonce, tickets.LIGHT, 1)
    request = me.request(2, nonce, tickets.LOOK, [])
    assert visit.answer_to(request).asked == 2
    visit.run(5)
    other = Technician(keys.command_private, "another")
    more_lies = {
        good: "replayed",
        me.ticket(4, nonce): "replayed",
        request: "replayed",
        me.request(1, nonce, tickets.LIGHT, [60]): "replayed",
        other.request(3, nonce, tickets.LOOK, []): "unknown_issuer",
        other.request(3, nonce, tickets.LOOK, [], kid=me.kid): "bad_signature",
        me.request(3, bytes(8), tickets.LOOK, []): "replayed",
        me.request(3, nonce, tickets.RESTART, []): "out_of_scope",
        me.request(3, nonce, tickets.CONFIGURE, [b"\xa0"]): "out_of_scope",
        frames.seal(HostSigner(me.key), frames.REQUEST, NETWORK, NODE, EPOCH, me.kid, 3, cbor.encode([nonce, 9, []])): "bad_payload",
        frames.seal(HostSigner(me.key), frames.UPLINK, NETWORK, NODE, EPOCH, me.kid, 3, cbor.encode([nonce, 1, []])): "bad_signature",
    }
    visit.is_silent_to(*more_lies)
    third = me.request(3, nonce, tickets.LOOK, [])
    visit.is_silent_to(*(third[:length] for length in range(1, len(third))), wait_s=0.05)
    told = visit.answer_to(third).value[REFUSALS]
    for reason in {*lies.values(), *more_lies.values()}:
        times = [*lies.values(), *more_lies.values()].count(reason)
        assert told[reason] >= times, (reason, told)
    assert [use[1:3] for use in visit.uses()][:3] == [[0, 0], [1, tickets.LIGHT], [2, tickets.LOOK]]
    assert not any("failed" in line for _, line in visit.city.logs)


def test_a_ticket_ends_with_its_time_and_takes_the_nonce_along(visit: Visit) -> None:
    """Both count on the node's own clock: behind its end a ticket does nothing, nor another for its nonce, nor a nonce after an hour."""
    nonce, me = visit.question().nonce, visit.technician
    assert visit.question().nonce == nonce
    assert visit.answer_to(me.ticket(1, nonce, valid_s=63)).ticket == 1  # not when the node looks for ends, every 5 s
    assert visit.ask(1, nonce, tickets.LIGHT, 1).result == 0
    end_s = visit.board.now_s + visit.answer_to(b"").left_s + 1
    visit.run(end_s - visit.board.now_s - 5)
    visit.is_silent_to()  # nothing of its own to write by now
    before, answers = visit.flash(), len(visit.city.answers)
    for number in range(20):  # the moment it is over, and no later
        visit.city.say(end_s + number / 4, slip.encode(slip.SERVICE, me.request(2, nonce, tickets.LIGHT, [1])))
    visit.run(10)
    assert (visit.flash(), visit.city.answers[answers:]) == (before, [])
    visit.is_silent_to(me.request(2, nonce, tickets.LIGHT, [1]), me.ticket(2, nonce), wait_s=2)
    fresh = visit.question()
    assert fresh.nonce != nonce
    assert (fresh.left_s, fresh.ticket, fresh.asked) == (3600, 0, 0)
    visit.is_silent_to(me.ticket(3, nonce), me.request(2, nonce, tickets.LIGHT, [1]), wait_s=2)
    visit.run(3600)
    before = len(visit.city.answers)
    visit.say(me.ticket(4, fresh.nonce))
    visit.run(ANSWER_S)
    assert len(visit.city.answers) == before
    assert visit.question().nonce not in (nonce, fresh.nonce)
    assert [use[:3] for use in visit.uses()] == [[1, 0, 0], [1, 1, tickets.LIGHT]]


def test_a_newer_ticket_takes_the_place_of_the_older(visit: Visit) -> None:
    """Wider scopes or another holder, under the same nonce; what was asked before is not asked again."""
    nonce, me = visit.question().nonce, visit.technician
    visit.answer_to(me.ticket(1, nonce, tickets.scope_of(tickets.LOOK)))
    used = me.request(1, nonce, tickets.LOOK, [])
    visit.answer_to(used)
    visit.run(5)
    visit.is_silent_to(me.request(2, nonce, tickets.LIGHT, [5]))
    assert visit.answer_to(me.ticket(2, nonce))[-3:-1] == (2, 1)
    visit.is_silent_to(used)
    assert visit.ask(2, nonce, tickets.LIGHT, 5).result == 0
    other = Technician(visit.node.keys.command_private, "another")
    assert visit.answer_to(other.ticket(3, nonce)).ticket == 3
    visit.run(5)
    visit.is_silent_to(me.request(3, nonce, tickets.LIGHT, [5]))
    assert visit.answer_to(other.request(3, nonce, tickets.LOOK, [])).result == 0


def test_a_node_that_never_knew_the_time_is_served(tmp_path: Path, lock_step_image: dict[str, bytes], seed: int) -> None:
    """Nobody answers its hellos: light and a restart all the same, and the uses arrive later."""
    with LoneNode(tmp_path, lock_step_image, CONFIG, "lamp", START_UNIX, seed, on_vm=True) as node:
        visit = Visit(node)
        node.city.is_silent = True
        node.board.power_on()
        visit.run(30)
        nonce = visit.question().nonce
        assert visit.answer_to(visit.technician.ticket(1, nonce)).ticket == 1
        clock = visit.ask(1, nonce, tickets.LOOK).value[1]
        assert clock == [None, None, None]
        assert visit.ask(2, nonce, tickets.LIGHT, 60).result == 0
        assert visit.ask(3, nonce, tickets.CONFIGURE, cbor.encode({**CONFIG, "health_s": 600})).result == 0
        visit.run(30)
        node.city.is_silent = False
        visit.until(lambda: len(visit.uses()) == 4, "uses", 120)
        assert len(node.city.hellos) > 1


def test_what_cannot_be_recorded_is_not_done(tmp_path: Path, lock_step_image: dict[str, bytes], seed: int) -> None:
    """A node that leaves service keeps no record: it takes no ticket."""
    with LoneNode(
        tmp_path, {**lock_step_image, "/lamppost/settings/leaving": _wrapped(1)}, CONFIG, "lamp", START_UNIX, seed, on_vm=True
    ) as node:
        visit = Visit(node)
        node.board.power_on()
        visit.run(30)
        nonce = visit.question().nonce
        assert visit.answer_to(visit.technician.ticket(1, nonce)).ticket == 0
        visit.is_silent_to(visit.technician.request(1, nonce, tickets.LIGHT, [60]))


def _wrapped(value: object) -> bytes:
    from lamppost_tools.node.enrol import checked_value

    return checked_value(value)


def test_a_flood_of_questions_costs_next_to_nothing(visit: Visit) -> None:
    """A thousand in ten seconds: a dozen answers, one nonce, no octet of flash, and after it the heap of before."""
    visit.question()
    nonce = visit.question().nonce
    visit.answer_to(visit.technician.ticket(1, nonce))
    free_bytes = visit.ask(1, nonce, tickets.LOOK).value[0][3]
    visit.run(5)
    before, answers = visit.flash(), len(visit.city.answers)
    for number in range(1000):
        visit.city.say(visit.board.now_s + number / 100, slip.encode(slip.SERVICE, b""))
    visit.run(12)
    told = visit.city.answers[answers:]
    assert 5 <= len(told) <= 12
    assert {facts.nonce for facts in told} == {nonce}
    assert visit.flash() == before
    assert visit.ask(2, nonce, tickets.LOOK).value[0][3] >= free_bytes - 512


class Besieged(City):
    """The line's far end: knocks without a pause from the moment that the node opens its port, for `siege_s`."""

    siege_s = 20.0
    chance = random.Random(0)

    def open(self, baud: int, rx_bytes: int, now_s: float) -> None:
        super().open(baud, rx_bytes, now_s)
        for _ in range(int(self.siege_s * self.baud / 10 / 300)):
            self.say(now_s, self.chance.choice(KNOCKS)[:200] + self.chance.randbytes(100))


def check_that_nothing_happened(visit: Visit) -> None:
    """One start, no prompt on line or console, and of all that was said on the line only messages."""
    said = visit.board.console.read_bytes() + b" ".join(line.encode() for _, line in visit.city.logs)
    assert [prompt for prompt in PROMPTS if prompt in said] == []
    decoder = visit.city.decoder
    assert (decoder.bad_slip, decoder.bad_crc, decoder.bad_type, decoder.too_long, visit.city.broken) == (0, 0, 0, 0, 0)
    assert visit.node.cabinet.starts == 1


def test_a_siege_from_the_first_moment_on(tmp_path: Path, lock_step_image: dict[str, bytes], seed: int) -> None:
    """Every octet, every control, from the port's opening through the whole boot without a gap: the node boots, and then has its time."""
    with LoneNode(tmp_path, lock_step_image, CONFIG, "lamp", START_UNIX, seed, on_vm=True) as node:
        city = Besieged(node.keys, START_UNIX)
        city.chance = random.Random(seed)
        node.city = node.board.line = city
        visit = Visit(node)
        node.board.power_on()
        visit.run(QUIET_S)
        assert city.answers == []
        visit.until(lambda: city.records and any(uplink.t is not None for _, uplink in city.heard), "records of a node that knows the time")
        check_that_nothing_happened(visit)
        nonce = visit.question().nonce
        visit.answer_to(visit.technician.ticket(1, nonce))
        look = visit.ask(1, nonce, tickets.LOOK).value
        assert look[0][1] == 1
        assert sum(look[2][:4]) > 0


def test_a_siege_of_a_running_node(visit: Visit, seed: int) -> None:
    """Knocks, random octets, spoilt frames and service messages: no answer, no octet of flash, no heap, no start."""
    chance = random.Random(seed)
    nonce, me = visit.question().nonce, visit.technician
    visit.answer_to(me.ticket(1, nonce, ALL_SCOPES))
    free_bytes = visit.ask(1, nonce, tickets.LOOK).value[0][3]
    visit.run(8)
    before, answers, frames_heard = visit.flash(), len(visit.city.answers), len(visit.city.heard)
    request = me.request(9, nonce, tickets.RESTART, [])
    order = visit.city.said or [me.ticket(2, nonce)]
    for number in range(250):
        spoilt = bytearray(chance.choice([request, *order]))
        spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
        message = slip.encode(chance.choice((slip.FRAME, slip.SERVICE, slip.HELLO, slip.LOG, slip.SERVICE_ANSWER)), bytes(spoilt))
        visit.city.say(visit.board.now_s + number / 10, slip.END + chance.choice(KNOCKS) + chance.randbytes(60) + slip.END + message)
    visit.run(30)
    assert visit.flash() == before
    assert (visit.city.answers[answers:], visit.city.heard[frames_heard:]) == ([], [])
    look = visit.ask(10, nonce, tickets.LOOK).value
    assert look[0][3] >= free_bytes - 1024
    assert sum(look[3].values()) > 50  # two types in five are looked into
    check_that_nothing_happened(visit)


def test_random_service_messages_move_nothing(visit: Visit, seed: int) -> None:
    """Bits turned in a good ticket and in a good request: never taken, never answered."""
    chance = random.Random(seed)
    nonce, me = visit.question().nonce, visit.technician
    good = me.ticket(1, nonce, ALL_SCOPES)

    def spoilt(frame: bytes) -> bytes:
        octets = bytearray(frame)
        octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
        return bytes(octets)

    visit.is_silent_to(*(spoilt(good) for _ in range(60)), wait_s=0.1)
    assert visit.answer_to(good).ticket == 1
    visit.run(5)
    request = me.request(1, nonce, tickets.RESTART, [])
    visit.is_silent_to(*(spoilt(request) for _ in range(60)), wait_s=0.1)
    assert len(visit.city.hellos) == len({hello.nonce for _, hello in visit.city.hellos})


def test_a_node_on_the_air_is_served_at_its_cable(tmp_path: Path, lock_step_image: dict[str, bytes], seed: int) -> None:
    """Its records fly, its technician has a cable: the same answers, and the uses arrive over the air."""
    lora = {
        "region": "EU868", "channels_hz": [868_100_000, 868_300_000], "downlink_hz": 869_525_000, "spread_s": 5, "gather_s": 0,
    }  # fmt: skip
    config = {**CONFIG, "lora": lora}
    with LoneAirNode(tmp_path, lock_step_image, config, START_UNIX, seed, on_vm=True, wiring="lamp_radio") as node:
        node.board.power_on()
        node.run_until(lambda: node.citizen.records, 200, "records")
        me, city = Technician(node.keys.command_private), node.city

        def answer_to(body: bytes) -> Any:
            known = len(city.answers)
            city.say(node.board.now_s, slip.encode(slip.SERVICE, body))
            node.run_until(lambda: len(city.answers) > known, 90, "answer")
            return city.answers[-1]

        nonce = answer_to(b"").nonce
        assert answer_to(me.ticket(1, nonce)).ticket == 1
        look = answer_to(me.request(1, nonce, tickets.LOOK, [])).value
        assert look[-1] == [kinds.LAMP]
        assert len(look[0]) == 17  # a node on the air has four columns more
        node.run_until(lambda: len([record for record in node.citizen.records.values() if record[0] == kinds.SERVICE]) == 2, 300, "uses")


@pytest.mark.parametrize(("wiring", "fixtures"), [("air_lamp", ["air", "lamp"]), ("bin", ["bin"])])
def test_a_test_has_every_fixture_measure_now(
    tmp_path: Path, lock_step_image: dict[str, bytes], seed: int, wiring: str, fixtures: list[str]
) -> None:
    """Hours before the next report, a particle sensor asleep: each gives a good record of its own within two minutes."""
    config = {**CONFIG, "fixtures": [{"kind": kind, "instance": 0} for kind in fixtures]}
    with LoneNode(tmp_path, lock_step_image, config, wiring, START_UNIX, seed, on_vm=True) as node:
        visit = Visit(node)
        node.board.power_on()
        visit.run(600)
        nonce = visit.question().nonce
        visit.answer_to(visit.technician.ticket(1, nonce))
        reported = len(visit.city.records)
        first = visit.ask(1, nonce, tickets.TEST, 1).value
        found = visit.ask(2, nonce, tickets.TEST, 120, deadline_s=125).value
        assert [(record[0], record[1]) for record in found] == [(kind, kinds.GOOD) for kind in visit.ask(3, nonce, tickets.LOOK).value[-1]]
        assert len(first) < len(found) or wiring == "bin"
        visit.run(20)
        assert len(visit.city.records) > reported
