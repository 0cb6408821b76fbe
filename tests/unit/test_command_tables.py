"""How answers of the API look in a terminal."""

from typing import Any

import pytest

from gateway.command.tables import print_answer

SESSION = {
    "id": "a" * 32,
    "serial": "1100000001",
    "company_id": "1",
    "target": "127.0.0.1:80",
    "protocol": "http",
    "state": "ended",
    "person": "Olga",
    "person_id": "1",
    "expires_at": "2027-01-15T01:00:00.000Z",
    "others": [{"person": "Ivo", "protocol": "ssh", "since": "2027-01-15T00:00:00.000Z"}],
    "bytes_in": 7,
    "bytes_out": 5,
    "ended_because": "closed",
}


def shown(capsys: pytest.CaptureFixture[str], noun: str, content: Any) -> list[list[str]]:
    """The words of each line."""
    print_answer(noun, content)
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_a_list_shows_what_people_look_for(capsys: pytest.CaptureFixture[str]) -> None:
    head, row = shown(capsys, "sessions", {"items": [SESSION], "next_cursor": None})
    assert dict(zip(head, row, strict=True)) == {
        name: str(SESSION[name])
        for name in "id serial target protocol state person expires_at ended_because bytes_in "
        "bytes_out".split()
    }


def test_things_inside_a_thing_get_a_table_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, "sessions", SESSION)
    assert ["state", "ended"] in lines
    at = lines.index(["others"])
    assert lines[at - 1] == [] and lines[at + 1] == ["person", "protocol", "since"]
    assert lines[at + 2] == ["Ivo", "ssh", "2027-01-15T00:00:00.000Z"]


def test_a_dry_run_shows_its_transfers_once(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"kind": "move", "days": 30, "from_account": "a", "to_account": "b", "sentence": "So."}
    report = {"line": 2, "serial": "1100000001", "company_id": "1", "outcome": "new", "more": 1}
    would = {"days": 30, "transfers": [row], "report": [report]}
    lines = shown(capsys, "credits", {"dry_run": True, "would": would, "transfers": [row]})
    assert lines.count(["kind", "days", "from_account", "to_account", "sentence"]) == 1
    assert ["line", "serial", "company_id", "outcome"] in lines


def test_a_statement_shows_its_sums_side_by_side_and_all_of_its_devices(
    capsys: pytest.CaptureFixture[str],
) -> None:
    device = {"serial": "1100000001", "name": "Pump", "company_id": "3", "days_paid": 30}
    sums = {"opening": 0, "granted": 90, "closing": 60}
    content = {
        "company_id": "3",
        "total": sums,
        "paid": sums | {"granted": 60},
        "free": {"opening": 0, "granted": 30, "closing": 0},
        "devices": [device | {"days_heard": 28, "credits": 1}],
    }
    lines = shown(capsys, "companies", content)
    at = lines.index(["total", "paid", "free"])
    assert lines[at + 1 : at + 3] == [["granted", "90", "60", "30"], ["closing", "60", "60", "0"]]
    assert ["company_id", "3"] in lines
    assert "total.granted" not in {line[0] for line in lines if line}
    assert "serial name company_id days_paid days_heard credits".split() in lines


def test_what_came_from_others_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_answer("sessions", {**SESSION, "person": "\x1b[2J\nOlga"})
    out = capsys.readouterr().out
    assert "\x1b" not in out and "�[2J�Olga" in out


def test_settings_are_a_table_with_a_row_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    brand = {"value": {"name": "Acme", "logo": ""}, "set_here": True, "inherited": False}
    zone = {"value": "UTC", "set_here": False, "inherited": True}
    settings = {"brand": {**brand, "origin": None}, "time_zone": {**zone, "origin": "Above"}}
    lines = shown(capsys, "settings", {"company_id": "1", "settings": settings})
    at = lines.index(["setting", "value", "set_here", "inherited", "origin"])
    assert lines[at + 1 : at + 3] == [
        ["brand", "name=Acme", "yes", "no", "–"],
        ["time_zone", "UTC", "no", "yes", "Above"],
    ]
