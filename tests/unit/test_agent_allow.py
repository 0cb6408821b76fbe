"""The agent's veto: which addresses and ports its list admits, compared with a slow reference."""

from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from agent.errors import ConfigurationError
from agent.links.allow import DEFAULT_ALLOW, ENTRIES_MAX, parse_allow
from wire.heartbeat import WireError
from wire.targets import parse_target

REACHED = [
    # list                              target                 whether it may be reached
    (DEFAULT_ALLOW, "127.0.0.1:80", True),
    (DEFAULT_ALLOW, "127.0.0.1:443", True),
    (DEFAULT_ALLOW, "[::1]:22", True),
    (DEFAULT_ALLOW, "127.0.0.1:8080", False),
    (DEFAULT_ALLOW, "127.0.0.2:80", False),
    (DEFAULT_ALLOW, "169.254.169.254:80", False),
    (DEFAULT_ALLOW, "[::ffff:7f00:1]:80", False),
    (DEFAULT_ALLOW, "192.168.1.1:80", False),
    (DEFAULT_ALLOW, "0.0.0.0:80", False),
    (DEFAULT_ALLOW, "[::]:80", False),
    (("192.168.1.0/24:80,443",), "192.168.1.50:443", True),
    (("192.168.1.0/24:80,443",), "192.168.1.50:444", False),
    (("192.168.1.0/24:80,443",), "192.168.2.50:443", False),
    (("192.168.1.0/24:80,443",), "127.0.0.1:80", False),
    (("10.0.0.5:1-65535",), "10.0.0.5:65535", True),
    (("10.0.0.5:1-65535",), "10.0.0.6:65535", False),
    (("10.0.0.5:22,8000-8010",), "10.0.0.5:8010", True),
    (("10.0.0.5:22,8000-8010",), "10.0.0.5:8011", False),
    (("[fd00::]/64:22",), "[fd00::7]:22", True),
    (("[fd00::]/64:22",), "[fd00:0:0:1::7]:22", False),
    # A network that merely contains a special range does not list it.
    (("0.0.0.0/0:80",), "8.8.8.8:80", True),
    (("0.0.0.0/0:80",), "127.0.0.1:80", False),
    (("0.0.0.0/0:80",), "0.0.0.0:80", False),
    (("0.0.0.0/0:80",), "0.1.2.3:80", False),
    (("0.0.0.0/0:80",), "169.254.169.254:80", False),
    (("0.0.0.0/0:80",), "224.0.0.1:80", False),
    (("0.0.0.0/0:80",), "255.255.255.255:80", False),
    (("0.0.0.0/0:80",), "240.0.0.1:80", False),
    (("0.0.0.0/0:80",), "[::ffff:808:808]:80", False),
    (("[::]/0:80",), "[2a00:1450::1]:80", True),
    (("[::]/0:80",), "[fd00::1]:80", True),
    (("[::]/0:80",), "[::1]:80", False),
    (("[::]/0:80",), "[::]:80", False),
    (("[::]/0:80",), "[::7f00:1]:80", False),
    (("[::]/0:80",), "[::ffff:7f00:1]:80", False),
    (("[::]/0:80",), "[::ffff:0:7f00:1]:80", False),
    (("[::]/0:80",), "[64:ff9b::7f00:1]:80", False),
    (("[::]/0:80",), "[64:ff9b:1::7f00:1]:80", False),
    (("[::]/0:80",), "[2002:7f00:1::]:80", False),
    (("[::]/0:80",), "[2001:0:7f00:1::]:80", False),
    (("[::]/0:80",), "[fe80::1]:80", False),
    (("[::]/0:80",), "[ff02::1]:80", False),
    (("[::]/8:80",), "[::ffff:7f00:1]:80", False),
    # Who lists that very range, or a part of it, gets it.
    (("169.254.0.0/16:80",), "169.254.169.254:80", True),
    (("169.254.169.254:80",), "169.254.169.254:80", True),
    (("127.0.0.2:8080",), "127.0.0.2:8080", True),
    (("127.0.0.2:8080",), "127.0.0.1:8080", False),
    (("[fe80::]/10:80",), "[fe80::1]:80", True),
    (("240.0.0.0/4:80",), "255.255.255.255:80", False),
    (("255.255.255.255:80",), "255.255.255.255:80", True),
    ((), "127.0.0.1:80", False),
]


def test_each_target_is_judged_as_the_table_has_it() -> None:
    for entries, text, expected in REACHED:
        target = parse_target(text)
        assert target.address is not None
        said = parse_allow(entries).allowed(target.address, target.port)
        assert said is expected, (entries, text)


SPELLINGS = (
    "0x7f.1:80 127.1:80 127.000.0.1:80 2130706433:80 0x7f000001:80 017700000001:80 "
    "[::ffff:127.0.0.1]:80 [0:0:0:0:0:0:0:1]:80 ::1:80 [127.0.0.1]:80 127.0.0.1.:80 "
    "[fe80::1%1]:80 127.0.0.1:080 127.0.0.1:0 127.0.0.1:65536 127.0.0.1"
).split()


def test_other_spellings_of_an_address_are_no_targets() -> None:
    for text in SPELLINGS:
        with pytest.raises(WireError):
            parse_target(text)


WRONG = [
    (7, "must be like"),
    ("", "must be like"),
    ("router", "must be like"),
    ("router:", "must be like"),
    ("Router:80", "must be like"),
    ("router/8:80", "does not appear to be"),
    ("router:80;22", "must be like"),
    ("router:80,,22", "ports must be like"),
    ("router:080", "ports must be like"),
    ("router:0", "ports must be like"),
    ("router:65536", "ports must be 1 to 65535"),
    ("router:90-80", "ports must be 1 to 65535, rising"),
    ("router:1-2-3", "ports must be like"),
    ("plc.lan:80", "does not appear to be"),
    ("192.168.1.1/24:80", "has host bits set"),
    ("192.168.1.0/33:80", "192.168.1.0/33"),
    ("192.168.1.0/024:80", "canonical"),
    ("192.168.001.0/24:80", "192.168.001.0"),
    ("0x7f.1:80", "0x7f.1"),
    ("127.1:80", "127.1"),
    ("fd00::/64:80", "must be like"),
    ("[fd00:0::]/64:80", "canonical"),
    ("[FD00::]/64:80", "must be like"),
    ("[fe80::1%1]:80", "must be like"),
    ("[192.168.1.0]/24:80", "canonical"),
    ("[::ffff:127.0.0.1]:80", "canonical"),
    (" router:80", "must be like"),
    ("router:80\n", "must be like"),
    ("router:" + ",".join(["80"] * 65), "at most 64 ports"),
]


def test_a_wrong_entry_is_named_with_what_is_wrong() -> None:
    for entry, said in WRONG:
        with pytest.raises(ConfigurationError) as caught:
            parse_allow(["router:80", entry])
        assert said in str(caught.value) and repr(entry) in str(caught.value), entry


def test_the_list_has_a_limit() -> None:
    parse_allow(["router:80"] * ENTRIES_MAX)
    with pytest.raises(ConfigurationError, match="at most"):
        parse_allow(["router:80"] * (ENTRIES_MAX + 1))


# The reference: what the standard library says of an address, and networks compared bit by bit.


def is_special(address: IPv4Address | IPv6Address) -> bool:
    if address.is_loopback or address.is_link_local or address.is_multicast:
        return True
    if address.is_unspecified or address.is_reserved:
        return True
    if isinstance(address, IPv4Address):
        return address.packed[0] == 0 or address.packed[:3] == bytes((192, 0, 0))
    embeds = address.ipv4_mapped or address.teredo or address.sixtofour
    return bool(embeds or address.is_site_local)


def bits(address: IPv4Address | IPv6Address) -> str:
    return "".join(f"{byte:08b}" for byte in address.packed)


def contains(network: IPv4Network | IPv6Network, address: IPv4Address | IPv6Address) -> bool:
    size = network.prefixlen
    same = bits(network.network_address)[:size] == bits(address)[:size]
    return network.version == address.version and same


NASTY = [
    "0.0.0.0 127.0.0.1 127.0.0.2 169.254.169.254 192.0.0.1 192.168.1.50 224.0.0.1 240.0.0.1",
    "255.255.255.255 8.8.8.8 :: ::1 ::2 ::ffff:7f00:1 ::ffff:0:7f00:1 64:ff9b::1 64:ff9b:1::1",
    "2001::1 2002::1 2a00::1 fd00::1 fe80::1 fec0::1 ff02::1 4000::1 100::1",
]
ADDRESSES = st.one_of(
    st.sampled_from([ip_address(text) for line in NASTY for text in line.split()]),
    st.ip_addresses(),
)


@st.composite
def networks(draw: st.DrawFn) -> IPv4Network | IPv6Network:
    address = draw(ADDRESSES)
    prefix = draw(st.integers(0, address.max_prefixlen))
    return ip_network(f"{address}/{prefix}", strict=False)


@given(networks(), ADDRESSES, st.integers(1, 65_535), st.integers(1, 65_535), st.integers(0, 999))
@example(ip_network("0.0.0.0/0"), ip_address("127.0.0.1"), 80, 80, 0)
def test_the_list_agrees_with_a_slow_reference(
    network: IPv4Network | IPv6Network,
    address: IPv4Address | IPv6Address,
    port: int,
    first: int,
    more: int,
) -> None:
    last = min(first + more, 65_535)
    host = f"[{network.network_address}]" if network.version == 6 else network.network_address
    allow = parse_allow([f"{host}/{network.prefixlen}:{first}-{last}"])
    said = allow.allowed(address, port)
    may = contains(network, address) and first <= port <= last
    if not may or not is_special(address):
        assert said is may
    elif said:
        # A special address is reached only by a network that is special as a whole.
        spread = network.num_addresses
        assert all(is_special(network[spread * step // 64]) for step in range(64))
    elif network.prefixlen == network.max_prefixlen:
        pytest.fail("an address that is listed by itself may be reached")


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    said = "allow: "
    try:
        parse_allow([text])
    except ConfigurationError as error:
        said = str(error)
    assert said.startswith("allow: ")
