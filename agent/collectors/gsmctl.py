"""Decodes what `gsmctl` prints, in its old and its new form."""

from collections.abc import Mapping

from agent.collectors.reading import (
    Values,
    band,
    cell_id,
    data_connection,
    digits,
    known,
    network_type,
    registration,
    signal,
    sim_slot,
    sim_state,
    temperature,
    text,
)

# Asked for at once; the answer has one line for each, in this order.
FLAGS = "otgjiJcbCu"
# Asked for alone: old firmware has another meaning for it, and wants an argument.
SIM_FLAG = "T"


def decode_signal(said: str) -> Values:
    """`-q`: one number in old firmware, named lines in new."""
    named: dict[str, object] = {}
    for line in said.splitlines()[:16]:
        name, colon, value = line.partition(":")
        named[name.strip().lower() if colon else "rssi"] = value if colon else line
    return signal(named)


def split_flags(said: str, flags: str = FLAGS) -> Mapping[str, str] | None:
    """The line of each flag; None when lines are missing, for nobody knows which."""
    lines = said.splitlines()
    return dict(zip(flags, lines, strict=True)) if len(lines) == len(flags) else None


def decode_flags(said: Mapping[str, str]) -> Values:
    """The values behind the flags that were answered."""
    return known(
        {
            "operator": text("operator", said.get("o")),
            "network_type": network_type(said.get("t")),
            "registration": registration(said.get("g")),
            "data_connection": data_connection(said.get("j")),
            "imei": digits("imei", said.get("i")),
            "iccid": digits("iccid", said.get("J")),
            "modem_temperature": temperature("modem_temperature", said.get("c"), tenths=True),
            "band": band(said.get("b")),
            "cell_id": cell_id(said.get("C")),
            "sim_state": sim_state(said.get("u")),
            "sim_slot": sim_slot(said.get("T")),
        }
    )
