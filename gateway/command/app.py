"""The `fleetgate` command: every subcommand loads only what it needs."""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from gateway.command import up_arguments as arguments
from gateway.command.up_arguments import DEMO_ROUTERS

EXIT_USAGE = 2
CONNECT = "connect"

_EPILOG = (
    "A newcomer runs  fleetgate up --demo  and opens the address it prints. "
    "Exit codes: 0 done, 1 failed, 2 wrong usage."
)

application = typer.Typer(
    name="fleetgate",
    help="Remote management for fleets of routers, on your own server.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@application.command()
def up(
    data: arguments.Data = Path("data"),
    demo: arguments.Demo = 0,
    http: arguments.Http = "",
    mqtt: arguments.Mqtt = "",
    devices: arguments.Devices = "",
    relay: arguments.Relay = "",
    ready_file: arguments.ReadyFile = None,
    database: arguments.Database = "",
    gateways: arguments.Gateways = 1,
    node: arguments.Node = "",
    relay_id: arguments.RelayId = "",
    keys: arguments.Keys = None,
) -> None:
    """Run the whole server side on this machine, in the foreground, until Ctrl-C.

    The first start makes keys, certificates, configuration, database and one operator, all in the
    data directory. Later starts use them again. Port 0 means any free port, kept for later
    starts. Nothing listens off loopback unless you name such an address.
    """
    from gateway.command import ports
    from gateway.command.installation import USUAL_PORTS
    from gateway.command.up import run
    from gateway.command.up_options import UpOptions

    texts = {"http": http, "mqtt": mqtt, "devices": devices, "relay": relay}
    try:
        asked = {name: ports.parse(name, text, USUAL_PORTS[name]) for name, text in texts.items()}
    except ports.AddressUsageError as error:
        raise _usage(str(error)) from error
    options = UpOptions(
        data=data.absolute(),
        asked=asked,
        demo_routers=demo,
        ready_file=ready_file.absolute() if ready_file else None,
        gateways=gateways,
        node=node,
        relay_id=relay_id,
        database=database,
        keys=keys.absolute() if keys else None,
    )
    raise typer.Exit(run(options))


@application.command()
def gateway(
    config: Annotated[Path, typer.Option(metavar="FILE", help="gateway.toml")],
) -> None:
    """Run one gateway from its configuration file, in the foreground.

    `fleetgate up` does this for you. Alone it is for a supervisor of your own, such as systemd; it
    waits for its database and its MQTT server, and ends on SIGTERM once what it took is stored.
    Several gateways share one PostgreSQL; docs/operations.md has a unit for each program.
    """
    module = import_module("gateway.command.gateway")
    raise typer.Exit(module.main(["--config", str(config)]))


@application.command("mqtt-server")
def mqtt_server(
    config: Annotated[
        Path, typer.Option(metavar="FILE", help="gateway.toml of a gateway beside it")
    ],
) -> None:
    """Become the MQTT server of one node: write Mosquitto's files and run it in the foreground.

    `fleetgate up` does this for you. Alone it is for a supervisor of your own, such as systemd. It
    makes keys, logins and relay.toml as well where they are absent, and waits until a gateway of
    the node has written the logins.
    """
    module = import_module("gateway.command.mqtt_server")
    raise typer.Exit(module.main(["--config", str(config)]))


@application.command()
def relay(
    config: Annotated[Path, typer.Option(metavar="FILE", help="relay.toml")],
) -> None:
    """Run one relay from its configuration file, in the foreground.

    `fleetgate up` does this for you. Alone it is for a supervisor of your own, such as systemd. It
    needs relay.toml and the folder relay/ beside it, which `up` and `mqtt-server` write, and no
    database; it serves once a gateway has heard it at an MQTT server.
    """
    from gateway.command.own_programs import become

    become("broker.relay", ["--config", str(config)])


@application.command(
    CONNECT,
    add_help_option=False,
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "help_option_names": [],
    },
)
def connect(context: typer.Context) -> None:
    """Reach a router, or a machine behind it, by a local port or as SSH's ProxyCommand."""
    _connect(context.args)


def _connect(arguments: Sequence[str]) -> None:
    from gateway.command.own_programs import become

    become("broker.connect", arguments)


@application.command("check-config")
def check_config(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="gateway.toml")],
) -> None:
    """Check a configuration file, and print every value that is in effect."""
    from gateway.command.configuration import ConfigurationError, as_tables, as_toml, load

    try:
        typer.echo(as_toml(as_tables(load(file))), nl=False)
    except ConfigurationError as error:
        raise _usage(str(error)) from error


@application.command()
def verify(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Data directory.")] = Path("data"),
    head: Annotated[
        str,
        typer.Option(
            metavar="POSITION:HASH",
            help="A head of the audit, as the log had it: the chain must still have it.",
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check the ledger and the audit of a data directory against themselves; reads only.

    The audit is compared with the file audit_head of the data directory, too. Exit codes: 0 all
    agrees, 1 something does not, or cannot be read.
    """
    words = ["--data", str(data), "--head", head, *(["--json"] if as_json else [])]
    raise typer.Exit(import_module("gateway.command.verify").main(words))


@application.command()
def backup(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write, such as x.tar.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Data directory.")] = Path("data"),
    without_history: Annotated[
        bool, typer.Option("--without-history", help="Leave the raw heartbeats out.")
    ] = False,
) -> None:
    """Write database, keys and configuration into one file, while all goes on.

    The file holds secrets. The same file restores into SQLite and into PostgreSQL.
    """
    words = ["--data", str(data), "--out", str(out)]
    module = import_module("gateway.command.backup")
    raise typer.Exit(module.main([*words, *(["--without-history"] if without_history else [])]))


@application.command()
def restore(
    source: Annotated[Path, typer.Option("--from", metavar="FILE", help="What `backup` wrote.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty directory.")] = (
        Path("data")
    ),
    database: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="FLEETGATE_DATABASE",
            show_envvar=False,
            help="An empty PostgreSQL database, as for `up`. [default: an SQLite file]",
        ),
    ] = "",
) -> None:
    """Make an installation of a backup, in an empty place, and verify it.

    Join codes, sign-ins, tickets and open sessions of the backup are void afterwards.
    """
    words = ["--from", str(source), "--data", str(data), "--database", database]
    raise typer.Exit(import_module("gateway.command.restore").main(words))


def _usage(reason: str) -> typer.Exit:
    typer.echo(f"fleetgate: {reason}", err=True)
    return typer.Exit(EXIT_USAGE)


def _with_demo_number(arguments: Sequence[str]) -> list[str]:
    """`--demo` may stand without a number; the parser wants one."""
    spelled: list[str] = []
    for index, word in enumerate(arguments):
        spelled.append(word)
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        if word == "--demo" and not following.isdigit():
            spelled.append(str(DEMO_ROUTERS))
    return spelled


def main(argv: Sequence[str] | None = None) -> None:
    """The console script."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] == CONNECT:
        # Word by word: the parser here would take a `--` or a `--demo` for its own.
        _connect(arguments[1:])
    if not arguments or arguments[0] in ("admin", "--help", "-h"):
        # Loaded only here: `up` and `gateway` start without the client's commands.
        _add_admin()
    application(args=_with_demo_number(arguments), prog_name="fleetgate")


def _add_admin() -> None:
    try:
        module = import_module("gateway.command.admin")
        import_module("gateway.command.following")
    except ModuleNotFoundError as error:
        if error.name != "gateway.command.admin":
            raise
        return
    application.add_typer(module.application, name="admin")


if __name__ == "__main__":
    main()
