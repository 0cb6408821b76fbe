"""A stream's user that sends back what comes."""

from wire.stream import Stream


class Echo:
    """Sends back what comes."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        stream.user = self

    def stream_data(self, data: bytes) -> None:
        self.stream.write(data)
        self.stream.took(len(data))

    def stream_finished(self) -> None:
        self.stream.finish()

    def stream_ended(self, reason: str) -> None:
        pass

    def stream_room(self) -> None:
        pass


def echo(stream: Stream) -> None:
    Echo(stream)
