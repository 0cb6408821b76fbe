"""Packs the values of one sample into few bytes for the spool.

A sample of a moving LTE router takes about 300 bytes, less than half of its JSON.
"""

from collections.abc import Mapping

from wire.fields import BY_ID, Value

PACKED_BYTES_MAX = 8 * 1024
_TEXT_BYTES_MAX = 255
_ID_MAX = 255
_VARINT_BYTES_MAX = 10


class PackError(ValueError):
    """The bytes are not a packed sample."""


def pack(values: Mapping[int, Value]) -> bytes:
    """Field number, then the value in the form that its type in the field table asks for."""
    packed = bytearray()
    for field_id, value in values.items():
        assert 0 < field_id <= _ID_MAX
        packed.append(field_id)
        if isinstance(value, bool):
            packed.append(int(value))
        elif isinstance(value, int):
            # Zigzag: small numbers of either sign become small positive ones.
            rest = value << 1 if value >= 0 else (-value << 1) - 1
            while rest > 0x7F:
                packed.append(rest & 0x7F | 0x80)
                rest >>= 7
            packed.append(rest)
        else:
            text = value.encode()
            assert len(text) <= _TEXT_BYTES_MAX
            packed.append(len(text))
            packed += text
    assert len(packed) <= PACKED_BYTES_MAX
    return bytes(packed)


def unpack(packed: bytes) -> dict[int, Value]:
    """The values of one sample. Raises `PackError`.

    A field that the table no longer knows ends the reading: its form cannot be told.
    """
    values: dict[int, Value] = {}
    at, end = 0, len(packed)
    try:
        while at < end:
            field = BY_ID[packed[at]]
            at += 1
            if field.type == "boolean":
                values[field.id] = packed[at] != 0
                at += 1
            elif field.type == "integer":
                values[field.id], at = _integer(packed, at)
            else:
                size = packed[at]
                at += 1
                if at + size > end:
                    raise PackError("a text is cut off")
                values[field.id] = packed[at : at + size].decode()
                at += size
    except (KeyError, IndexError, UnicodeDecodeError) as error:
        raise PackError(f"not a packed sample: {error}") from error
    return values


def _integer(packed: bytes, at: int) -> tuple[int, int]:
    rest = shift = 0
    for position in range(at, at + _VARINT_BYTES_MAX):
        byte = packed[position]
        rest |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            value = rest >> 1 if rest & 1 == 0 else -((rest + 1) >> 1)
            return value, position + 1
    raise PackError("an integer does not end")
