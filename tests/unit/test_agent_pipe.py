"""The heartbeat machine against a model gateway over a pipe that loses, doubles and reorders."""

import shutil
import tempfile
from pathlib import Path
from random import Random

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.agent_device import Device
from tests.model_gateway import ModelGateway
from wire.fields import Value
from wire.heartbeat import Message, Origin, decode_receipt

FIELDS = (1, 10, 12, 13, 40)


def values_of(seed: int) -> dict[int, Value]:
    """Few fields that change now and then, and sometimes a source that failed."""
    rng = Random(seed)
    values: dict[int, Value] = {
        1: seed % 97,
        10: -90 - rng.randrange(3),
        12: rng.randrange(2),
        13: rng.choice(("A", "B")),
        40: rng.random() < 0.5,
    }
    if rng.random() < 0.3:
        del values[rng.choice(FIELDS)]
    return values


class PipeMachine(RuleBasedStateMachine):
    """Everything made is stored exactly once, and the gateway's state is what the device saw."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.device = Device(self.folder)
        self.gateway = ModelGateway()
        self.truth: dict[tuple[str, int], dict[int, Value]] = {}
        self.made_at: dict[tuple[str, int], tuple[str, int]] = {}
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        self.settled: set[tuple[str, int]] = set()
        self.connected = False

    def teardown(self) -> None:
        self._drain()
        self.device.spool.close()
        shutil.rmtree(self.folder)

    @rule(seed=st.integers(0, 1_000))
    def sample(self, seed: int) -> None:
        values = values_of(seed)
        run = self.device.machine.run
        number = self.device.sample(values)
        self.truth[run, number] = values
        self.made_at[run, number] = (f"boot-{self.device.boot}", self.device.now_ms)
        self._move()

    @rule(seconds=st.sampled_from([0, 1, 61, 3_600]))
    def wait(self, seconds: int) -> None:
        self.device.now_ms += seconds * 1_000
        self._move()

    @rule()
    def connect(self) -> None:
        self.device.machine.disconnected()
        self.device.connect()
        self.connected = True
        self._move()

    @precondition(lambda self: self.connected)
    @rule()
    def disconnect(self) -> None:
        self.device.machine.disconnected()
        self.connected = False

    @rule()
    def kill_minus_9(self) -> None:
        self.device.kill()
        self.connected = False

    @rule()
    def reboot(self) -> None:
        self.device.reboot()
        self.connected = False

    @precondition(lambda self: self.up)
    @rule(fate=st.sampled_from(["arrives", "arrives", "is lost", "is doubled"]))
    def message(self, fate: str) -> None:
        payload = self.up.pop(0)
        for _ in range({"arrives": 1, "is lost": 0, "is doubled": 2}[fate]):
            self._arrive(payload)

    @precondition(lambda self: self.down)
    @rule(fate=st.sampled_from(["arrives", "arrives", "is lost", "is doubled", "comes later"]))
    def receipt(self, fate: str) -> None:
        payload = self.down.pop(0)
        if fate == "comes later":
            self.down.append(payload)
        for _ in range({"arrives": 1, "is doubled": 2}.get(fate, 0)):
            self._hear(payload)
        self._move()

    @precondition(lambda self: self.gateway.current is not None)
    @rule()
    def gateway_wants_all(self) -> None:
        self.gateway.need_full = True

    @invariant()
    def the_state_is_what_the_device_saw(self) -> None:
        gateway = self.gateway
        if gateway.current is None or not gateway.state_seq or gateway.need_full:
            return
        truth = self.truth[gateway.current, gateway.state_seq]
        assert {f: gateway.state.get(f) for f in truth} == truth

    @invariant()
    def what_is_stored_is_true(self) -> None:
        for key, values in self.gateway.stored.items():
            assert values.items() <= self.truth[key].items()
        for key in self.settled:
            assert key in self.gateway.stored

    def _move(self) -> None:
        self.up.extend(self.device.take())

    def _arrive(self, payload: bytes) -> None:
        message, receipt = self.gateway.take(payload)
        self._check_times(message)
        if receipt is not None:
            self.down.append(receipt)

    def _check_times(self, message: Message) -> None:
        for sample in message.samples:
            boot, made_ms = self.made_at[message.run, sample.number]
            if message.origin is not None:
                assert sample.clock_ms == made_ms
                assert message.origin == Origin(5_000 * int(boot.removeprefix("boot-")))

    def _hear(self, payload: bytes) -> None:
        received = self.device.machine.receipt(decode_receipt(payload), self.device.now_ms)
        self.settled |= {(received.run, number) for number in received.settled}

    def _drain(self) -> None:
        """With a pipe that works, everything is settled, after a bounded number of steps."""
        self.connect()
        for step in range(400):
            while self.up:
                self._arrive(self.up.pop(0))
            while self.down:
                self._hear(self.down.pop(0))
            self._move()
            if not len(self.device.spool) and not self.up:
                break
            self.device.now_ms += 60_000
            if step % 3 == 0:
                self.sample(step)
        assert len(self.device.spool) == 0
        assert set(self.gateway.stored) == set(self.truth)
        assert self.gateway.lost == 0
        assert self.device.spool.dropped == 0


PipeMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestPipe = PipeMachine.TestCase
