"""What the relay logs at its most talkative: no secret, and no line of somebody else's making."""

import asyncio
import logging
from pathlib import Path

import pytest

from broker.relay.log_format import JsonLines
from tests.integration.test_relay_floods import visitor_of
from tests.relay_rig import fact
from tests.relay_web_rig import NAVIGATION, UPGRADE, Browser, Recorder, running_site
from wire.frames import Kind, encode, reason_frame
from wire.hello import Hello, hello_bytes
from wire.tickets import Party, Way

PASSWORD = "hunter2-of-the-plc"
FORGED = "forged line\nERROR relay forged=1"


async def test_no_secret_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    secrets: list[str] = [PASSWORD, "word of @relay-1"]
    async with running_site(tmp_path, Recorder()) as site:
        browser = Browser(site.rig, site.claims)
        state = (await browser.ask(headers=NAVIGATION)).one("location").rpartition("=")[2]
        entrance = browser.entrance(state)
        ticket = entrance.partition("ticket=")[2].partition("&")[0]
        secrets += [state, ticket]
        await browser.ask(entrance, headers=NAVIGATION)  # without its cookie
        browser.cookie = f"fleetgate-state={state}"
        for _ in range(2):  # the second time it is used
            await browser.ask(entrance, headers=NAVIGATION)
        await browser.ask(entrance.replace("eyJ", "eyK"), headers=NAVIGATION)
        secrets.append(site.browser.cookie.partition("=")[2])
        login = {"Authorization": f"Basic {PASSWORD}", "Content-Type": "text/plain"}
        await site.browser.ask(
            f"/login?password={PASSWORD}", method="POST", headers=login, body=PASSWORD.encode()
        )
        await site.browser.raw(f"GET /{PASSWORD}\r\n bad: {PASSWORD}\r\n\r\n".encode())
        await site.browser.raw(site.browser.head("GET", "/ws", UPGRADE))
        claims = site.rig.mint.again(site.claims)
        device = await site.rig.dial()
        secrets += [site.device.secret.hex(), device.secret.hex(), site.rig.mint.sign(claims)]
        await device.hello(secrets[-1])
        async with visitor_of(site.rig, site.claims) as visitor:
            wrong = site.rig.mint.again(site.claims, party=Party.VISITOR, way=Way.WEB)
            secrets.append(site.rig.mint.sign(wrong))
            await visitor.socket.send_bytes(hello_bytes(Hello(secrets[-1], bytes(32))))
        garbage = await site.rig.dial()
        garbage.transport.write(encode(Kind.HELLO, 0, secrets[-1].encode()))
        await garbage.closed()
        site.session.end("closed")
        device.transport.abort()
        await asyncio.sleep(0)
    assert "link up" in caplog.text
    shown = caplog.text + "".join(JsonLines().format(record) for record in caplog.records)
    for secret in secrets:
        assert secret not in shown


async def test_no_line_of_the_log_is_somebody_elses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_site(tmp_path, Recorder()) as site:
        site.device.transport.write(reason_frame(Kind.BYE, 0, FORGED))
        await fact(lambda: site.session.link is None)
        garbage = await site.rig.dial()
        garbage.transport.write(encode(Kind.RESUME, 0, b'{"v":"%b"}' % FORGED.encode()))
        await garbage.closed()
        await site.browser.raw(f"GET /{FORGED} HTTP/1.1\r\nHost: {FORGED}\r\n\r\n".encode())
    for record in caplog.records:
        assert "forged" not in record.getMessage() or "\n" not in record.getMessage()
