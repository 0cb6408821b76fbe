"""An operator takes the only relay out of service while somebody works through it."""

from pathlib import Path

from tests.scenario.installation import until
from tests.scenario.tunnel import ECHO, connecting, demo, router, until_shown

RELAY = "relay-1"


async def test_what_is_open_goes_on_and_the_relay_is_started_anew_after_it(tmp_path: Path) -> None:
    with demo(tmp_path, 1) as installation:
        api, former = installation.api, installation.pid("relay")
        async with connecting(installation, tmp_path, f"{router(1)}:{ECHO}") as running:
            open_one = await running.echo()
            found = api.done("POST", f"/relays/{RELAY}/drain", {})
            assert found == {"id": RELAY, "draining": True, "sessions": 1}
            refused = api.ask("POST", "/sessions", {"serial": router(1), "protocol": "http"})
            assert refused.status == 503 and "out of service" in refused.json["detail"]
            (shown,) = api.get("//status")["relays"]
            assert (shown["draining"], shown["sessions"]) == (True, 1)
            # The session has all that it had: its stream, and new ones.
            await open_one.says(b"still there")
            await (await running.echo()).says(b"a new one")
            assert installation.pid("relay") == former
            session = running.session
        api.done("DELETE", f"/sessions/{session}")
        installation.back("relay", former)

        def serves() -> bool:
            (shown,) = api.get("//status")["relays"]
            return bool(shown["present"] and not shown["draining"])

        until(serves, "the relay's next life takes sessions", within_s=20)
        assert "child ended, will start again child=relay exit=0" in installation.log
        async with connecting(installation, tmp_path, f"{router(1)}:{ECHO}") as running:
            await (await running.echo()).says(b"through the next life")
            await until_shown(installation, running.session, state="open")
        assert not installation.tracebacks()
