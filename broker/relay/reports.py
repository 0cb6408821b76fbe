"""What the relay reports of itself: states that fit into one MQTT packet."""

from broker.relay.sessions import Sessions
from wire.relay_control import HAPPENINGS_MAX, USAGES_MAX, State, Usage, as_many, encode

# The MQTT server ends the connection of whoever sends more than 16,384 bytes; the topic is in it.
STATE_BYTES_MAX = 16_384 - 256
HAPPENINGS_BYTES_MAX = STATE_BYTES_MAX // 2  # counts must go on too


class Reports:
    """Makes one state after another; with many sessions each holds some of them."""

    def __init__(self, sessions: Sessions, epoch: str) -> None:
        self._sessions = sessions
        self._epoch = epoch
        self._sent: dict[str, Usage] = {}  # the oldest said first
        self.applied = 0  # number of the newest revocation
        self.more = False  # what has changed did not fit into the last one

    def make(self) -> bytes:
        """The next state. Counts that changed come first, then those not said for longest."""
        sessions = self._sessions
        usages = sessions.usages()
        state = State(
            self._epoch,
            self.applied,
            sum(usage.link for usage in usages),
            sum(usage.streams for usage in usages),
            sessions.memory_bytes(),
        )
        room = STATE_BYTES_MAX - len(encode(state))
        most = min(room, HAPPENINGS_BYTES_MAX)
        happened, left = as_many(sessions.happenings.waiting(HAPPENINGS_MAX), most)
        room -= most - left
        said = self._in_turn(usages, room)
        return encode(state._replace(usage=said, happened=happened))

    def _in_turn(self, usages: list[Usage], room: int) -> tuple[Usage, ...]:
        by_id = {usage.session: usage for usage in usages}
        changed = [usage for usage in usages if self._sent.get(usage.session) != usage]
        unchanged = [
            by_id[session]
            for session, sent in self._sent.items()
            if session in by_id and by_id[session] == sent
        ]
        said, _ = as_many((*changed, *unchanged)[:USAGES_MAX], room)
        self.more = len(said) < len(changed)
        sent = {session: usage for session, usage in self._sent.items() if session in by_id}
        for usage in said:
            sent.pop(usage.session, None)
            sent[usage.session] = usage
        self._sent = sent
        return said
