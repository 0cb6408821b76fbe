"""The one registry of operations: HTTP routes, CLI, OpenAPI and audit verbs are made from it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import INSIDE, READING, Principal, Right, authorize
from gateway.operations.audit_writing import OWN_VERBS, About, record_operation
from gateway.operations.inside import asks
from gateway.operations.ticket_making import TicketSigner
from gateway.operations.treasury import Treasury
from gateway.operations.visible import Visible, narrowed, visible_to
from gateway.storage.locks import Tree
from gateway.storage.transaction import Transaction

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
R = TypeVar("R", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Site:
    """What operations must know of the installation; made once by the composition root."""

    public_url: str
    join_hosts: tuple[str, ...]
    join_port: int
    mqtt_hosts: tuple[str, ...]
    mqtt_port: int
    ca_digest: str  # SHA-256 of the CA's DER, in hex
    master_key: bytes
    node: str
    version: str
    tickets: TicketSigner
    mail: bool = False  # whether there is a server that takes mails


ASKS_FIRST = (
    "The company asks people from above to stay out; one of its own administrators or advanced "
    "users can let you in for a time, with a support access."
)
# What is left to members of a company that demands a second factor, while they have none.
_WITHOUT_SECOND_FACTOR = frozenset({Right.PUBLIC, Right.SIGNED_IN, Right.OWN_ACCOUNT})
_NOBODYS = (0, -1)  # no company has such an id


class Call:
    """One execution of an operation: its transaction, who asks, and what was authorised."""

    __slots__ = ("_checked", "noted", "principal", "site", "treasury", "tx")

    def __init__(self, tx: Transaction, principal: Principal, site: Site) -> None:
        self.tx = tx
        self.principal = principal
        self.site = site
        self.treasury = Treasury.of(tx)
        self.noted = About()  # what the entry of the audit will say besides the input
        self._checked = False

    def allows(self, right: Right, company_id: int | None = None) -> bool:
        """Whether the caller has the right in the company."""
        self._checked = True
        if company_id is None:
            return authorize(self.principal, right)
        asking = asks(self.tx, company_id) if right in INSIDE else None
        return authorize(self.principal, right, self.treasury.path(company_id), asks=asking)

    def carried(self, right: Right, company_id: int) -> bool:
        """Whether the caller's token, if it came with one, is for such things in the company."""
        token = self.principal.token
        return token is None or token.carries(right, self.treasury.path(company_id))

    def require(
        self, right: Right, company_id: int, *, see: Right, what: str, reading: bool = False
    ) -> None:
        """Refuses unless the caller has the right in the company.

        Who may not even see the thing is told that it does not exist, exactly as if it did not.
        In a company that was closed nothing but `reading` is left.
        """
        if self.allows(right, company_id):
            if self.noted.company_id is None:
                self.noted.company_id = company_id
            if right not in READING and not reading:
                self.require_open(company_id)
            return
        if self.allows(see, company_id):
            if right in INSIDE and authorize(self.principal, right, self.treasury.path(company_id)):
                raise Refused(Code.FORBIDDEN, ASKS_FIRST)
            raise Refused(Code.FORBIDDEN, f"This needs the right {right.value} in the company.")
        raise not_found(what)

    def missing(self, right: Right, *, see: Right, what: str, looks: int = 1) -> Refused:
        """The refusal for what does not exist, after as many looks as at what is somebody else's.

        So neither the answer nor the time it takes tells one from the other. `looks`: how many
        companies are looked at of a thing that exists, less how often this was looked for again.
        """
        self._checked = True
        for company_id in _NOBODYS[:looks]:
            self.treasury.path(company_id)
        for one in (right, see):
            if one in INSIDE:
                asks(self.tx, _NOBODYS[0])
        return not_found(what)

    def require_open(self, company_id: int) -> None:
        """Refuses when the company was closed: it can be read, and never changed again."""
        chain = self.treasury.chain(company_id)
        if chain and chain[0].closed:
            raise Refused(Code.COMPANY_CLOSED, "The company was closed; it can only be read.")

    def visible(self, right: Right) -> Visible:
        """The companies in which the caller has the right, by membership."""
        self._checked = True
        return visible_to(self.tx, self.treasury, self.principal, right)

    def visible_of(
        self, company: str, right: Right, *, see: Right = Right.SEE_COMPANIES
    ) -> Visible:
        """Of these all, or only one company, which a list names, and those below it.

        Raises `Refused` unless the caller has the right in the one that is named.
        """
        if not company:
            return self.visible(right)
        number = company_number(company)
        self.require(right, number, see=see, what="company", reading=True)
        return narrowed(self.visible(right), self.treasury, number)

    def about(
        self,
        *,
        company_id: int | None = None,
        device_id: int | None = None,
        serial: str | None = None,
        subject: str | None = None,
        actor: str | None = None,
        person_id: int | None = None,
        personal: Mapping[str, str] | None = None,
        **detail: object,
    ) -> None:
        """What the audit says of this besides the input; what is not said is found out.

        `person_id`: whose the personal values are, if not the actor's. `detail` holds nothing
        personal and nothing secret: it is never erased.
        """
        noted = self.noted
        noted.company_id = noted.company_id if company_id is None else company_id
        noted.device_id = noted.device_id if device_id is None else device_id
        noted.serial = serial or noted.serial
        noted.subject = subject or noted.subject
        noted.actor = actor or noted.actor
        noted.person_id = noted.person_id if person_id is None else person_id
        noted.personal.update(personal or {})
        noted.detail.update(detail)

    @property
    def checked(self) -> bool:
        """Whether the operation asked for a right; one that did not is a bug."""
        return self._checked


def not_found(what: str) -> Refused:
    """The same answer for what is missing and for what is somebody else's."""
    return Refused(Code.NOT_FOUND, f"There is no such {what}, or it is not yours to see.")


@dataclass(frozen=True, slots=True)
class Operation:
    """One use case as the outside sees it."""

    name: str  # noun.verb: the CLI says `fleetgate admin noun verb`
    summary: str
    method: Method
    path: str  # below /api/v1, with {field} for parts of the input
    right: Right
    function: Callable[[Call, Any], Any]
    input: type[msgspec.Struct]
    result: type[Any]
    status: int
    errors: tuple[Code, ...]
    tree: Tree = Tree.SHARED
    moves_credits: bool = False
    file_type: str = ""  # what it answers besides JSON, when it is asked for a file
    guessed: Code | None = None  # says that a secret was wrong; whoever is told so often waits
    body_bytes_max: int = 0  # where a body may be longer than usual
    irrevocable: bool = False  # no other operation puts it right again

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    @property
    def path_fields(self) -> tuple[str, ...]:
        """Input fields that stand in the path."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))


_operations: dict[str, Operation] = {}


def operation(
    name: str,
    method: Method,
    path: str,
    *,
    right: Right,
    result: type[Any],
    status: int = 200,
    errors: tuple[Code, ...] = (),
    tree: Tree = Tree.SHARED,
    moves_credits: bool = False,
    file_type: str = "",
    guessed: Code | None = None,
    body_bytes_max: int = 0,
    irrevocable: bool = False,
) -> Callable[[Callable[[Call, Any], Any]], Callable[[Call, Any], Any]]:
    """Registers a use case; its docstring's first line is its summary, its second parameter's
    annotation its input. `tree`: how its transaction holds the tree of companies. `moves_credits`:
    it may book days, so it can be tried out (`dry_run=true`). `file_type`: the content type of
    the `Document` that it may answer instead. `guessed`: how it refuses a secret that is wrong;
    trying many out is slowed down. `body_bytes_max`: its body may be longer than usual.
    `irrevocable`: no other operation puts it right again, so people are asked first."""

    def register(function: Callable[[Call, Any], Any]) -> Callable[[Call, Any], Any]:
        assert name not in _operations, name
        assert function.__doc__, name
        annotations = [value for key, value in function.__annotations__.items() if key != "return"]
        _operations[name] = Operation(
            name,
            function.__doc__.splitlines()[0].rstrip("."),
            method,
            path,
            right,
            function,
            annotations[1],
            result,
            status,
            errors,
            tree,
            moves_credits,
            file_type,
            guessed,
            body_bytes_max,
            irrevocable,
        )
        return function

    return register


def operations() -> Iterator[Operation]:
    """Every registered operation, in order of registration."""
    yield from _operations.values()


def execute(tx: Transaction, op: Operation, principal: Principal, site: Site, given: Any) -> Any:
    """Runs one operation for one caller: first the right, then the use case.

    Raises `Refused`.
    """
    if principal.second_factor_needed and op.right not in _WITHOUT_SECOND_FACTOR:
        raise Refused(
            Code.SECOND_FACTOR_NEEDED,
            "One of your companies demands a second factor; set one up for your account first.",
        )
    call = Call(tx, principal, site)
    if op.right in (Right.PUBLIC, Right.SIGNED_IN, Right.OWN_ACCOUNT, Right.OPERATE):
        if not call.allows(op.right):
            raise _denied(principal, op.right)
    elif principal.user_id is None and not principal.internal:
        raise _denied(principal, op.right)
    booked = len(tx.booked)
    result = op.function(call, given)
    assert call.checked, f"{op.name} did not ask whether the caller may"
    announced = op.moves_credits or len(tx.booked) == booked
    assert announced, f"{op.name} books days: register it with moves_credits=True"
    if op.writes and op.name not in OWN_VERBS:
        record_operation(
            tx,
            op.name,
            op.input.__struct_fields__,
            op.path_fields,
            actor=principal.name,
            given=given,
            result=result,
            about=call.noted,
        )
    return result


def _denied(principal: Principal, right: Right) -> Refused:
    if principal.user_id is None:
        return Refused(Code.SIGNED_OUT, "Sign in, or send `Authorization: Bearer …`.")
    return Refused(Code.FORBIDDEN, f"This needs the right {right.value}.")


class Page(msgspec.Struct, kw_only=True):
    """What every list takes."""

    limit: int = 100
    cursor: str = ""

    def __post_init__(self) -> None:
        check_limit(self.limit)


def check_limit(limit: int) -> None:
    """How long a page of a list may be. Raises ValueError."""
    if not 1 <= limit <= 500:
        raise ValueError("limit: from 1 to 500")


def cursor_number(text: str) -> int | None:
    """The position that a cursor names; None for the beginning. Raises `Refused`."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Refused(Code.VALIDATION, "cursor: not one that a list gave out", field="cursor")
    return int(text)


def row_number(text: str, what: str) -> int:
    """The inner id of a row, or the answer for a missing one. Raises `Refused`."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise not_found(what)
    return int(text)


def company_number(text: str, field: str = "company_id") -> int:
    """The inner id of a company, or the answer for a missing one. Raises `Refused`."""
    return row_number(text, "company")
