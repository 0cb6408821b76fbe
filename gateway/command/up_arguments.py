"""The options of `fleetgate up`, each with its help."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DEMO_ROUTERS = 25

Data: TypeAlias = Annotated[
    Path, typer.Option(metavar="DIR", help="Data directory; made if absent.")
]
Demo: TypeAlias = Annotated[
    int,
    typer.Option(
        min=0,
        max=1000,
        metavar="[N]",
        help=f"Simulated routers to start; --demo alone means {DEMO_ROUTERS}.",
    ),
]
Http: TypeAlias = Annotated[
    str, typer.Option(metavar="HOST:PORT", help="Pages and API. [default: 127.0.0.1:8080]")
]
Mqtt: TypeAlias = Annotated[
    str, typer.Option(metavar="HOST:PORT", help="MQTT for devices. [default: 127.0.0.1:8883]")
]
Devices: TypeAlias = Annotated[
    str, typer.Option(metavar="HOST:PORT", help="Joining. [default: 127.0.0.1:8884]")
]
Relay: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT", help="Sessions: devices and visitors. [default: 127.0.0.1:8885]"
    ),
]
ReadyFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Holds addresses and the first sign-in once all is up."),
]
Database: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="FLEETGATE_DATABASE",
        show_envvar=False,
        help="postgresql://USER:PASSWORD@HOST/NAME instead of an SQLite file; best said by the"
        " variable FLEETGATE_DATABASE, which other users do not see. Kept for later starts.",
    ),
]
Gateways: TypeAlias = Annotated[
    int,
    typer.Option(min=1, max=32, metavar="N", help="Gateway processes; more than 1: PostgreSQL."),
]
Node: TypeAlias = Annotated[
    str, typer.Option(metavar="NAME", help="This machine among several. [default: node-1]")
]
RelayId: TypeAlias = Annotated[
    str, typer.Option(metavar="NAME", help="Its relay. [default: relay-1 at node-1, and so on]")
]
Keys: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="keys/ of the first machine, for all others; copied."),
]
