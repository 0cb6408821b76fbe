"""What is said of a session that does not work: page, diagnosis and `fleetgate connect` agree."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.scenario.fleet import Fleet
from tests.scenario.http_api import Api
from tests.scenario.installation import Installation, instant_s, until
from tests.scenario.visiting import Page, Session, connect

LINK_WAIT_S = 15.0  # a visitor waits so long for a device that is away
DIAL_S = 10.0  # an agent gives a silent target so long
LITTLE_S = 3.0  # for everything else, on a busy machine
AT_ONCE_S = 5.0
RELAY_SEEN_S = 15.0  # so long the gateway believes in a relay that is silent, and it in the gateway
PROBE_S = 5.0  # between the gateway's own messages through the MQTT server
HOPS = {
    "person": "you",
    "gateway": "the gateway",
    "mqtt": "the MQTT server",
    "agent": "the device",
    "relay": "the relay",
    "target": "the target",
}


@contextmanager
def a_router(installation: Installation, folder: Path, serial: int) -> Iterator[Fleet]:
    """A router of its own, whose process can be struck alone."""
    api = installation.api
    company = api.company(f"Away {serial}")
    api.grant(company, 1)
    fleet = Fleet(installation, api.join_code(company, 1), 1, serial, 1, folder / str(serial))
    fleet.start()
    try:
        until_online(api, str(serial))
        yield fleet
    finally:
        fleet.kill()


def until_online(api: Api, serial: str) -> None:
    def online() -> bool:
        answer = api.ask("GET", f"/devices/{serial}")
        return answer.status == 200 and answer.json["presence"]["state"] == "online"

    until(online, f"{serial} is online", within_s=30)


def together(*scenes: Callable[[], Any]) -> list[Any]:
    """All at once, each in a thread; what they return."""
    with ThreadPoolExecutor(len(scenes)) as pool:
        return [one.result() for one in [pool.submit(scene) for scene in scenes]]


def insist_page(page: Page, status: int, hop: str, code: str, within_s: float) -> None:
    """The page names the hop and says what is wrong and what to do."""
    assert (page.status, page.hop, page.code) == (status, HOPS[hop], code), page.text
    assert page.took_s <= within_s, page.took_s
    assert page.text.count("<p>") >= 3, page.text


def insist_found(session: Session, hop: str, code: str, since_s: float, within_s: float) -> None:
    """The diagnosis names the hop, since when, and what to do."""
    found = session.until_found(hop, code, within_s)
    guilty = next(one for one in found["hops"] if one["hop"] == hop)
    assert guilty["state"] == "failed" and found["advice"] == guilty["advice"]
    assert guilty["advice"].endswith("."), guilty
    assert abs(instant_s(guilty["at"]) - session.installation.now_s()) <= since_s, guilty


def insist_connect(installation: Installation, what: str, said: str, within_s: float) -> None:
    done = connect(installation, what)
    assert done.code == 1 and done.out == b"", done
    assert said in done.error, done.error
    assert done.took_s <= within_s, done.took_s


def insist_works(session: Session, cookie: str) -> None:
    """Without anybody's doing."""
    until(lambda: session.diagnosis()["failing"] is None, "all is well", within_s=20)
    session.until_open()
    pages = []

    def back() -> bool:
        pages.append(session.page(cookie=cookie))
        return pages[-1].status == 302

    try:
        until(back, "the page is back", within_s=AT_ONCE_S)
    except AssertionError as error:
        raise AssertionError(f"{error}; but {pages[-1]}") from None
