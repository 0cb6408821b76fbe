"""One read buffer for all TLS connections of this process."""

from asyncio.sslproto import SSLProtocol

READ_BYTES = 256 * 1024


def lend_one_read_buffer() -> None:
    """Makes all connections read into the same memory; asyncio gives each of them its own.

    2,000 idle links would hold 128 MiB of it and more, and so would half-open ones. asyncio's
    selector loop reads into the buffer and hands what came to OpenSSL in one go, so nothing is left
    in it when the next connection is read (`_read_ready__get_buffer`, CPython 3.11 to 3.13). With
    an asyncio that calls these attributes something else all works as well, and takes more memory.
    """
    buffer = bytearray(READ_BYTES)
    lent: dict[str, object] = {"_ssl_buffer": buffer, "_ssl_buffer_view": memoryview(buffer)}
    for name, value in lent.items():
        setattr(SSLProtocol, name, _Lent(value))
    SSLProtocol.max_size = READ_BYTES


class _Lent:
    """An attribute that is the same for all; what each would set instead is dropped."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __get__(self, owner: object, kind: object = None) -> object:
        return self._value

    def __set__(self, owner: object, value: object) -> None:
        pass
