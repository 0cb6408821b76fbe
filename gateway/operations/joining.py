"""Joining: a device with a join code gets its MQTT login; a claimed serial waits for release."""

import hashlib
import re
import secrets
from typing import Annotated, Any
from zlib import crc32

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, update

from gateway.domain.instants import DAY_MS, instant_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import GATEWAY, Right
from gateway.join.sealing import seal
from gateway.mqtt_server.passwords import hash_password
from gateway.operations.companies import company_row
from gateway.operations.devices import OneDevice, find
from gateway.operations.enrolment_record import sealed_record
from gateway.operations.logins import set_login
from gateway.operations.registering import admit, newest
from gateway.operations.registry import Call, Site, company_number, operation
from gateway.operations.session_ends import end_sessions_of
from gateway.storage.locks import Raced
from gateway.storage.schema import device, enrolment, join_code, node
from gateway.storage.transaction import AnyRow, Transaction
from wire.endings import Ended
from wire.join import CODE_BYTES, JoinAnswer, JoinRequest, JoinString, encode_join_string
from wire.serials import is_serial

CODE_LIVES_MS = 7 * DAY_MS
READY_IN_S = 3  # the login file is written at most every 2 s
SPREAD_S = 5
# Enrolments that a person has to release: a claimed serial, and a device that a restored backup
# did not know.
WAITING_STATES = ("waiting", "recovered")
_NODES = select(func.count()).select_from(node)
_HEX = re.compile(r"[0-9a-f]{64}")
_REFUSED = (
    "This join was refused: the code is unknown, used up or over, or it does not admit this "
    "serial. Ask for a new join string."
)


class Join(msgspec.Struct):
    """The text to paste into a router, and until when it works."""

    join: str
    expires_at: str


class CompanyJoin(msgspec.Struct):
    """A join string for many devices of a company."""

    id: str
    join: str
    expires_at: str
    uses: int
    register: bool
    credits: int


class MakeJoinCode(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How many devices it admits; whether unknown ones, and for how many credits."""

    company_id: str
    uses: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1
    register: bool = False
    credits: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0


class Released(msgspec.Struct):
    """The device whose new credential is valid now."""

    serial: str
    released: bool


# Many devices may come with one code at once: each takes a use of it before anything else.
_USE = (
    update(join_code)
    .where(join_code.c.id == bindparam("code"), join_code.c.uses_left > 0)
    .values(uses_left=join_code.c.uses_left - 1)
    .returning(*join_code.c)
)


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()


def _make_code(
    call: Call, company_id: int, serial: str | None, uses: int, register: bool, credits: int
) -> tuple[int, str, int]:
    code = secrets.token_urlsafe(CODE_BYTES)
    expires_at = call.tx.now_ms + CODE_LIVES_MS
    number = call.tx.insert(
        insert(join_code),
        {
            "code_hash": _digest(code),
            "company_id": company_id,
            "serial": serial,
            "uses_left": uses,
            "register": register,
            "credits_left": credits,
            "created_by": call.principal.name,
            "created_at": call.tx.now_ms,
            "expires_at": expires_at,
        },
    )
    site = call.site
    text = JoinString(site.join_hosts, site.join_port, site.ca_digest, code, serial)
    return number, encode_join_string(text), expires_at


@operation(
    "devices.join", "POST", "/devices/{serial}/join", right=Right.MANAGE_DEVICES, result=Join
)
def make_device_join(call: Call, given: OneDevice) -> Join:
    """Makes a join string for one device, valid once within seven days."""
    row = find(call, given.serial, Right.MANAGE_DEVICES)
    # The newest string is the one that works.
    call.tx.run(delete(join_code).where(join_code.c.serial == given.serial))
    _, text, expires_at = _make_code(call, row.company_id, given.serial, 1, False, 0)
    return Join(text, instant_text(expires_at))


@operation(
    "join-codes.create",
    "POST",
    "/companies/{company_id}/join-codes",
    right=Right.MANAGE_DEVICES,
    result=CompanyJoin,
    status=201,
)
def make_company_join(call: Call, given: MakeJoinCode) -> CompanyJoin:
    """Makes a join string for many devices of a company and those below."""
    number = company_number(given.company_id)
    call.require(Right.MANAGE_DEVICES, number, see=Right.SEE_COMPANIES, what="company")
    company_row(call, number)
    id_, text, expires_at = _make_code(
        call, number, None, given.uses, given.register, given.credits
    )
    return CompanyJoin(
        str(id_), text, instant_text(expires_at), given.uses, given.register, given.credits
    )


def join(tx: Transaction, site: Site, request: JoinRequest, source: str) -> JoinAnswer:
    """Admits a device. Idempotent for the same code, serial and derived values.

    Every failure is the same `Refused`, whether the serial exists or not.
    """
    del source  # the listener throttles by it
    if not is_serial(request.serial) or not all(
        _HEX.fullmatch(value) for value in (request.mqtt_password, request.command_key)
    ):
        raise refused_join()
    call = Call(tx, GATEWAY, site)
    code = tx.one(
        select(join_code).where(
            join_code.c.code_hash == _digest(request.code), join_code.c.expires_at > tx.now_ms
        )
    )
    row = newest(call, request.serial)
    held = [] if row is None else tx.all(select(enrolment).where(enrolment.c.device_id == row.id))
    print_ = _fingerprint(request)
    for credential in held:
        if credential.fingerprint == print_ and credential.code_hash == _digest(request.code):
            return answer_to(call, request.serial, row, credential)
    if code is None or code.serial not in (None, request.serial):
        raise refused_join()
    used = tx.one(_USE, {"code": code.id})
    if used is None:
        raise refused_join()
    device_id = _admitted(call, used, row, request)
    state = "joined"
    in_force = [c for c in held if c.state == "joined" and c.device_id == device_id]
    if in_force and in_force[0].fingerprint != print_:
        state = "waiting"  # a claimed serial: its owner has to say that this is the device
    return _enrol(call, device_id, state, request)


def refused_join() -> Refused:
    """The one answer to every failure."""
    return Refused(Code.FORBIDDEN, _REFUSED)


def _fingerprint(request: JoinRequest) -> bytes:
    text = f"{request.serial}\n{request.mqtt_password}\n{request.command_key}"
    return hashlib.sha256(text.encode()).digest()


def _admitted(call: Call, code: AnyRow, row: AnyRow | None, request: JoinRequest) -> int:
    """The device that the code admits, registered now where the code says so."""
    if row is not None and row.registered and code.company_id in call.treasury.path(row.company_id):
        return int(row.id)
    if not code.register or code.serial is not None:
        raise refused_join()
    start = "on_contact" if code.credits_left > 0 else "later"
    values: dict[str, Any] = {
        "name": "",
        "tags": "[]",
        "notes": "",
        "reference": "",
        "auto_extend": True,
    }
    device_id = admit(call, request.serial, code.company_id, start, values, by_join=True)
    if device_id is None and row is None:
        # While the code was waited for, the serial became known: perhaps by this very device,
        # which asks several gateways.
        raise Raced(f"serial {request.serial}")
    if device_id is None:
        raise refused_join()
    if start == "on_contact":
        call.tx.run(
            update(join_code)
            .where(join_code.c.id == code.id)
            .values(credits_left=join_code.c.credits_left - 1)
        )
    return device_id


def _enrol(call: Call, device_id: int, state: str, request: JoinRequest) -> JoinAnswer:
    tx, site = call.tx, call.site
    # Another claimant that waits goes on waiting when the device in force joins anew.
    over = (state, "recovered") if state == "joined" else (state,)
    tx.run(delete(enrolment).where(enrolment.c.device_id == device_id, enrolment.c.state.in_(over)))
    hashed = hash_password(request.mqtt_password)
    key = bytes.fromhex(request.command_key)
    tx.run(
        insert(enrolment),
        {
            "device_id": device_id,
            "state": state,
            "password_hash": hashed,
            "fingerprint": _fingerprint(request),
            "command_key": seal(site.master_key, key, bound_to=request.serial),
            "code_hash": _digest(request.code),
            "lan_mac": request.lan_mac[:17],
            "at": tx.now_ms,
        },
    )
    if state == "joined":
        _put_in_force(tx, device_id, request.serial, hashed)
    row = tx.one(select(device).where(device.c.id == device_id))
    credential = tx.one(
        select(enrolment).where(enrolment.c.device_id == device_id, enrolment.c.state == state)
    )
    assert credential is not None
    return answer_to(call, request.serial, row, credential)


def _put_in_force(tx: Transaction, device_id: int, serial: str, password_hash: str) -> None:
    set_login(tx, serial, password_hash)
    joined = {"joined_at": tx.now_ms, "rotate_secret": False}
    tx.run(update(device).where(device.c.id == device_id).values(**joined))


def _hosts_for(call: Call, serial: str) -> tuple[str, ...]:
    """Where the device finds an MQTT server: of several nodes each is the first for its share."""
    hosts = call.site.mqtt_hosts
    nodes = call.tx.scalar(_NODES) or 1
    if nodes == 1 or not hosts:
        return hosts  # names of one server, the likeliest first
    first = crc32(serial.encode()) % len(hosts)
    return hosts[first:] + hosts[:first]


def answer_to(call: Call, serial: str, row: AnyRow | None, credential: AnyRow) -> JoinAnswer:
    """What a device with this enrolment is told. Raises the one `Refused`."""
    assert row is not None
    if not row.registered:
        raise refused_join()
    site = call.site
    return JoinAnswer(
        "joined" if credential.state == "joined" else "waiting",
        _hosts_for(call, serial),
        site.mqtt_port,
        sealed_record(call, serial, row.company_id, credential),
        READY_IN_S,
        SPREAD_S,
        call.tx.now_ms,
    )


@operation(
    "devices.release",
    "POST",
    "/devices/{serial}/release",
    right=Right.MANAGE_DEVICES,
    result=Released,
    errors=(Code.NOTHING_WAITS,),
)
def release(call: Call, given: OneDevice) -> Released:
    """Lets the device that waits, or was recovered, have the serial; a former credential ends."""
    row = find(call, given.serial, Right.MANAGE_DEVICES)
    of_device = enrolment.c.device_id == row.id
    # Whoever joined last is the one that a person at the device knows of.
    waiting = call.tx.one(
        select(enrolment)
        .where(of_device, enrolment.c.state.in_(WAITING_STATES))
        .order_by(enrolment.c.at.desc())
    )
    if waiting is None:
        raise Refused(Code.NOTHING_WAITS, "No device with this serial waits to be released.")
    call.tx.run(delete(enrolment).where(of_device, enrolment.c.state != waiting.state))
    call.tx.run(update(enrolment).where(of_device).values(state="joined"))
    # Whoever reached the former device did not mean this one.
    end_sessions_of(call.tx, row.id, Ended.RELEASED, call.principal.name)
    _put_in_force(call.tx, row.id, given.serial, waiting.password_hash)
    return Released(given.serial, True)
