"""`docs/wire.md` against the package `wire`: topics, limits, forms, verbs and the field table."""

import json
import re

import pytest

from tests.contract.tables import ROOT, tables
from wire import commands, heartbeat, join, presence, ranges, relay_control, topics
from wire.fields import FIELD_TABLE_VERSION, FIELDS
from wire.relay_control import Happening, Note, Usage
from wire.serials import SERIAL_PATTERN
from wire.tickets import Claims, Party, Way, payload_of

PAGE = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")
TABLES = tables("wire.md")
RUN = "q1W2e3R4t5Y"


def test_the_field_table_is_that_of_the_program() -> None:
    said = TABLES["id | name | type | unit | from | to | meaning"]
    made = [
        {
            "id": str(field.id),
            "name": field.name,
            "type": field.type,
            "unit": field.unit,
            "from": f"{field.low:,}",
            "to": f"{field.high:,}",
            "meaning": field.meaning.replace("`", ""),
        }
        for field in FIELDS
    ]
    assert said == made
    assert f"Version {FIELD_TABLE_VERSION} of the table." in PAGE


def test_topics_are_those_of_the_program() -> None:
    said = {row["topic"]: row["direction"] for row in TABLES["topic | direction | QoS | content"]}
    device, gateway = "device → gateway", "gateway → device"
    assert said == {
        topics.heartbeat("<serial>"): device,
        topics.presence("<serial>"): device,
        topics.answer("<serial>"): device,
        topics.receipt("<serial>"): gateway,
        topics.command("<serial>"): gateway,
        topics.probe("<gateway>"): "gateway → itself",
        topics.relay_event("<relay>"): "relay → gateway",
        topics.relay_command("<relay>"): "gateway → relay",
    }
    leaves = [topic.split("/")[-1] for topic, way in said.items() if way == device]
    assert leaves == list(topics.DEVICE_LEAVES)
    assert f"`{SERIAL_PATTERN}`" in PAGE


LIMITS = {
    "bytes of a heartbeat message": heartbeat.MESSAGE_BYTES_MAX,
    "samples of a message": heartbeat.SAMPLES_MAX,
    "entries of a sample's flat list": 512,
    "a number, connection or counter": heartbeat.NUMBER_MAX,
    "an interval in seconds": heartbeat.INTERVAL_S_MAX,
    "ranges of a run": ranges.RANGES_MAX,
    "refused ranges of a receipt": heartbeat.REFUSED_MAX,
    "bytes of a command's body": commands.COMMAND_BYTES_MAX,
    "bytes of an answer": commands.ANSWER_BYTES_MAX,
    "seconds that a command lives": commands.TTL_S_MAX,
    "commands remembered per connection": commands.SEEN_WINDOW,
    "hosts of a join string": join.HOSTS_MAX,
    "characters of a join string": join.JOIN_STRING_CHARS_MAX,
}


def test_limits_are_those_of_the_program() -> None:
    said = {row["what"]: row["limit"] for row in TABLES["what | limit"]}
    assert said == {what: f"{limit:,}" for what, limit in LIMITS.items()}


def test_positions_are_those_of_the_program() -> None:
    lines = PAGE.split("## Receipt")
    names = [
        re.findall(r"^\| (\d+) \| (\w+) \|", part, re.MULTILINE)
        for part in (lines[0], lines[1].split("## Presence")[0])
    ]
    message = [name for name in heartbeat.Message._fields if name != "ignored_fields"]
    assert names[0] == [(str(index), name) for index, name in enumerate(message)]
    receipt = [
        "flags" if name == "full" else name
        for name in heartbeat.Receipt._fields
        if name != "send_up"
    ]
    assert names[1] == [(str(index), name) for index, name in enumerate(receipt)]


def test_verbs_are_those_of_the_program() -> None:
    said = [row["verb"] for row in TABLES["verb | arguments | what the device does"]]
    assert said == [verb.value for verb in commands.Verb]


def keys() -> list[list[str]]:
    """The keys of the tables of objects, in the order of the page."""
    found: list[list[str]] = []
    for line in PAGE.splitlines():
        if line == "| key | form | meaning |":
            found.append([])
        elif found and (row := re.match(r"\| `(\w+)` \|", line)):
            found[-1].append(row[1])
        elif line == "| verb | arguments | what the device does |":
            found.append([])
    return [part for part in found if part]


def test_keys_of_objects_are_those_of_the_program() -> None:
    up = json.loads(presence.encode_up(presence.Up(RUN, 1, True, "0" * 32)))
    made = commands.Command(1, "a", "ping", {}, 1, 60)
    command = commands.encode_command(made, key=b"k", serial="1100000001", nonce="00" * 16)
    body = json.loads(command[commands.TAG_BYTES :])
    verbs = [verb.value for verb in commands.Verb]
    string = list(join.JoinString._fields)
    assert keys() == [list(up), list(body), verbs, string]
    request = join.JoinRequest("c", "s", "m", "p", "k").as_json()
    answer = join.JoinAnswer("joined", ("h",), 1, "r", 1, 1, 1).as_json()
    joining = PAGE.split("## Joining")[1].split("## Fields")[0]
    for name in (*request, *answer):
        assert f"`{name}`" in joining, name


def test_the_example_is_what_it_says() -> None:
    example = re.search(r"Example: `(\[.*\])`", PAGE)
    assert example is not None
    message = heartbeat.parse_message(json.loads(example[1]))
    assert heartbeat.encode_message(message).decode() == example[1]
    sample = message.samples[0]
    assert (sample.number, sample.clock_ms, message.base) == (42, 120, 41)


@pytest.mark.parametrize("path", [join.CA_PATH, join.JOIN_PATH, join.STATUS_PATH, join.SCHEME])
def test_paths_of_joining_are_named(path: str) -> None:
    assert path in PAGE


def test_members_of_the_relay_s_messages_are_those_of_the_program() -> None:
    said = [
        (row["message"], name)
        for row in TABLES["message | member | meaning"]
        for name in row["member"].split(", ")
    ]
    lease = [("lease", name) for name in relay_control.Lease._fields]
    state = [("state", name) for name in relay_control.State._fields]
    assert sorted(said) == sorted(lease + state)
    for fields in (Usage._fields, Happening._fields, Note._fields):
        assert f"[{', '.join(fields)}]" in PAGE, fields


def test_claims_are_those_of_the_program() -> None:
    ticket = PAGE.split("A **ticket** is")[1].split("## ")[0]
    texts = ["x"] * len(Claims._fields)
    claims = Claims._make(texts)._replace(
        party=Party.DEVICE, way=Way.LINK, issued_ms=1, expires_ms=1
    )
    for name in payload_of(claims):
        assert f"`{name}`" in ticket, name
