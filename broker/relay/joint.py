"""Joins a visitor's stream with one of the device's link: bytes both ways, windows hop by hop."""

from collections.abc import Callable

from wire.stream import Stream

# What the accepting side of a stream may say instead of accepting it.
REFUSALS = frozenset(
    "not_allowed refused timed_out unreachable busy control_link_lost session_over no_link".split()
)


class Joint:
    """Two ends; each is the user of its own stream and writes into the other's.

    A side's sender is given room only while the queue of the other link has room, so a reader
    that stalls holds back its own sender and nobody else.
    """

    def __init__(self) -> None:
        self.visitor = End(accepts=True)
        self.device = End(accepts=False)
        self.visitor.other = self.device
        self.device.other = self.visitor

    def accept(self, stream: Stream) -> None:
        """The visitor's stream; what it sends waits until the device's is there."""
        self.visitor.stream = stream
        stream.user = self.visitor

    def join(self, stream: Stream) -> None:
        """The device's stream is open; its user is `device` already."""
        self.device.stream = stream
        visitor = self.visitor.stream
        if visitor is not None and not visitor.ended:
            # What is counted for this stream goes on while its bytes wait for the visitor, who may
            # never read them: the device's side is over long before.
            visitor.released, stream.released = stream.released, None
        self.visitor.forward_early()
        if self.visitor.over:
            stream.reset("reset")

    def refuse(self, reason: str) -> None:
        """The device's stream could not be opened."""
        if self.visitor.stream is not None:
            self.visitor.over = True
            self.visitor.stream.refuse(reason)


class End:
    """One of a joint's two ends."""

    __slots__ = ("_early", "_finished", "_untold", "abandon", "accepts", "other", "over", "stream")

    def __init__(self, *, accepts: bool) -> None:
        self.accepts = accepts
        self.other: End
        self.stream: Stream | None = None
        self.over = False
        self._early: list[bytes] = []  # came before the other stream was there
        self._finished = False
        self.abandon: Callable[[], object] | None = None  # nobody needs the other stream now
        self._untold = 0  # forwarded, while the other's queue was full

    def stream_data(self, data: bytes) -> None:
        """Bytes for the other end."""
        if self.other.stream is None:
            self._early.append(data)
        else:
            self._forward(self.other.stream, data)

    def stream_finished(self) -> None:
        """Half-close is passed on."""
        self._finished = True
        if self.other.stream is not None:
            self.other.stream.finish()

    def stream_ended(self, reason: str) -> None:
        """So is the end, with its reason; as a refusal where nothing was heard before."""
        self.over = True
        self._early.clear()
        if self.abandon is not None:
            self.abandon()
        other = self.other
        if other.stream is None or other.over:
            return
        other.over = True
        heard = self.stream is not None and self.stream.arrived
        # Only the side that accepts a stream refuses it: towards the visitor.
        if other.accepts and reason in REFUSALS and not heard:
            other.stream.refuse(reason)
        else:
            other.stream.reset(reason)

    def stream_room(self) -> None:
        """This end's queue has room: whoever writes into it may go on."""
        self.other.tell()

    def tell(self) -> None:
        """What was forwarded while the queue was full is confirmed now."""
        untold, self._untold = self._untold, 0
        if self.stream is not None:
            self.stream.took(untold)

    def forward_early(self) -> None:
        """The other stream is there now."""
        assert self.other.stream is not None
        early, self._early = self._early, []
        for data in early:
            self._forward(self.other.stream, data)
        if self._finished:
            self.other.stream.finish()

    def _forward(self, stream: Stream, data: bytes) -> None:
        stream.write(data)
        if stream.room > 0 or stream.ended:
            assert self.stream is not None
            self.stream.took(len(data))
        else:
            self._untold += len(data)
