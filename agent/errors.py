"""
The agent's errors, each with a sentence that says what to do next.

AgentError
├── ConfigurationError    a file or an option must be changed
├── JoinError             joining did not work this time; trying again may help
│   └── JoinRefused       the gateway said no; another join string is needed
└── ConnectionFailed      the connection to MQTT server or relay failed; it will be tried again
    └── LoginRefused      the MQTT server said no; it will be tried again, slowly
        └── LoginTakenOver  another client signed in with the same name
"""


class AgentError(Exception):
    """Anything this package raises on purpose."""


class ConfigurationError(AgentError):
    """A file or an option must be changed; the text names it."""


class JoinError(AgentError):
    """Joining did not work this time."""


class JoinRefused(JoinError):
    """The gateway refused the join code; the same request will not succeed."""


class ConnectionFailed(AgentError):
    """The connection failed or was lost."""


class LoginRefused(ConnectionFailed):
    """The MQTT server refused the login. Never final: the gateway may just be writing it."""


class LoginTakenOver(LoginRefused):
    """Somebody else signed in under our name, so coming back at once would start a quarrel."""


def first_failure(group: BaseExceptionGroup[ConnectionFailed] | None) -> ConnectionFailed | None:
    """Of what several tasks of one connection ran into, the first."""
    while isinstance(group, BaseExceptionGroup):
        inner = group.exceptions[0]
        if isinstance(inner, ConnectionFailed):
            return inner
        group = inner
    return None
