"""What every handler may use; made once by `make_app`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from gateway.api.health import Health
from gateway.api.idempotency import Answers
from gateway.api.limits import Limits
from gateway.api.status import StatusFacts
from gateway.api.streams import Streams
from gateway.clock import Clock
from gateway.command.sections import GatewayConfiguration, HttpSection
from gateway.operations.failed_attempts import Failures
from gateway.operations.registry import Site
from gateway.people.passwords import PasswordDesk
from gateway.people.throttle import Throttle
from gateway.storage.store import Store
from gateway.telemetry import Telemetry

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one application."""

    store: Store
    site: Site
    telemetry: Telemetry
    clock: Clock
    configuration: GatewayConfiguration
    answers: Answers
    limits: Limits
    hand_overs: Limits
    throttle: Throttle  # of signing in
    guesses: Throttle  # of secrets that operations take
    resets: Throttle  # of asking for a new password
    failures: Failures  # of both, until they are in the audit
    health: Health
    facts: StatusFacts
    sleep: Sleep
    desk: PasswordDesk = field(default_factory=PasswordDesk)
    streams: Streams = field(default_factory=Streams)

    @property
    def http(self) -> HttpSection:
        return self.configuration.http


SERVICES = web.AppKey("services", Services)


def services_of(request: web.Request) -> Services:
    """The parts of the request's application."""
    return request.app[SERVICES]
