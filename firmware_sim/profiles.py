"""Router models by name: what each says of itself, and which parts it has."""

from dataclasses import dataclass

FIRST_SERIAL = 1_100_000_001
SERIAL_DIGITS = 10

EC25 = ("EC25", "EC25EFAR02A08M4G")
EP06 = ("EP06", "EP06ELAR04A04M4G")
RG501Q = ("RG501Q-EU", "RG501QEUAAR12A08M4G")


@dataclass(frozen=True, slots=True)
class Profile:
    """Identity and build of one model; all values are made up in the shapes of the real ones."""

    name: str
    model: str
    firmware: str
    memory_kib: int
    flash_kib: int
    gps: bool
    inputs: bool
    bands: tuple[str, ...]
    network_types: tuple[str, ...]
    weight: int
    # Model and firmware of each modem; the model decides the forms of its AT answers.
    modems: tuple[tuple[str, str], ...] = (EC25,)
    sims: int = 1
    old: bool = False  # firmware whose commands and API speak in the older forms

    @property
    def key_is_imei(self) -> bool:
        """Whether Teltonika's cloud asks for the IMEI beside the serial, not for the MAC."""
        return self.name.startswith("TRB")


PROFILES = (
    Profile(
        "RUT241",
        "RUT24107XXXX",
        "RUT2M_R_00.07.22.3",
        124_000,
        5_100,
        False,
        False,
        ("LTE B3", "LTE B7", "LTE B20"),
        ("LTE", "3G"),
        5,
    ),
    Profile(
        "RUT956",
        "RUT95601XXXX",
        "RUT9M_R_00.07.06.20",
        124_500,
        5_400,
        True,
        True,
        ("LTE B3", "LTE B8", "LTE B20"),
        ("LTE", "3G"),
        5,
        sims=2,
    ),
    Profile(
        "RUTX11",
        "RUTX11100000",
        "RUTX_R_00.07.06.1",
        248_000,
        128_000,
        True,
        True,
        ("LTE B1", "LTE B3", "LTE B7"),
        ("LTE", "LTE-CA"),
        4,
        (EP06,),
        sims=2,
    ),
    Profile(
        "RUTX50",
        "RUTX50000000",
        "RUTX_R_00.07.06.1",
        248_000,
        128_000,
        True,
        True,
        ("5G N78", "5G N1", "LTE B3"),
        ("5G-NSA", "LTE"),
        3,
        (RG501Q,),
        sims=2,
    ),
    Profile(
        "TRB140",
        "TRB14000XXXX",
        "TRB1_R_00.07.06.10",
        124_000,
        256_000,
        False,
        True,
        ("LTE B3", "LTE B20"),
        ("LTE", "2G"),
        1,
    ),
    Profile(
        "RUTX12",
        "RUTX12000000",
        "RUTX_R_00.07.06.1",
        248_000,
        128_000,
        True,
        True,
        ("LTE B1", "LTE B3", "LTE B7"),
        ("LTE", "LTE-CA"),
        1,
        (EP06, EC25),
    ),
    Profile(
        "RUT950",
        "RUT950M02XXX",
        "RUT9_R_00.07.06.20",
        124_000,
        5_200,
        False,
        False,
        ("LTE B3", "LTE B7", "LTE B20"),
        ("LTE", "3G"),
        1,
        sims=2,
        old=True,
    ),
)


def serial_text(number: int) -> str:
    """Ten digits, leading zeros kept."""
    return f"{number:0{SERIAL_DIGITS}d}"


def mac_of(number: int) -> str:
    """A LAN address in Teltonika's range, another one for each serial."""
    tail = number & 0xFF_FFFF
    return f"00:1E:42:{tail >> 16:02X}:{tail >> 8 & 0xFF:02X}:{tail & 0xFF:02X}"


def with_luhn(digits: str) -> str:
    """The digits and their check digit, as IMEI and ICCID have it."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if position % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return digits + str(-total % 10)
