"""A month of 2,000 devices on both engines: the size is as the documentation says, plots are drawn.

The documentation's table of bytes is read here, so that neither can change alone.
"""

import re
from pathlib import Path

import pytest

from bench.history import live
from gateway.jobs.retention import KeptDays
from tests.conftest import SummaryRow
from tests.databases import ENGINES

DOCS = Path(__file__).parents[2] / "docs"
DEVICES, DAYS, SAMPLES_A_DAY = 2_000, 30, 288
KEPT = KeptDays()
TOLERANCE = 0.2
MIB = 2**20


def bytes_of_rows(engine: str) -> dict[str, int]:
    """What the documentation says of a row of each level, five fields changing."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("operations*.md"))]
    said = re.findall(
        r"^\| (raw row|hour|day): SQLite, PostgreSQL \| (\d+), (\d+) \|", "\n".join(texts), re.M
    )
    assert len(said) == 3
    return {name: int(values[ENGINES.index(engine)]) for name, *values in said}


def predicted(engine: str, devices: int, days: int) -> float:
    """The formula of the documentation."""
    row = bytes_of_rows(engine)
    raw = SAMPLES_A_DAY * min(KEPT.raw + 1, days) * row["raw row"]
    hours = 24 * min(KEPT.hourly, days) * row["hour"]
    return devices * (raw + hours + min(KEPT.daily, days) * row["day"])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_worked_example_is_what_the_formula_gives(engine: str) -> None:
    texts = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("operations*.md"))
    (said,) = re.findall(
        r"^\| after the first 30 days \| ([\d.]+) GB \| ([\d.]+) GB \|", texts, re.M
    )
    assert float(said[ENGINES.index(engine)]) == pytest.approx(
        predicted(engine, DEVICES, DAYS) / 1e9, abs=0.01
    )


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_month_takes_what_the_documentation_says(
    engine: str, tmp_path: Path, summary_row: SummaryRow
) -> None:
    lived = live(tmp_path, engine, devices=DEVICES, days=DAYS, kept=KEPT)
    assert lived.samples == DEVICES * DAYS * SAMPLES_A_DAY
    assert lived.rows["heartbeat"] == DEVICES * KEPT.raw * SAMPLES_A_DAY
    # The last two hours are not rolled up yet.
    assert lived.rows["history_hour"] == DEVICES * (DAYS * 24 - 2)
    assert lived.rows["history_day"] == DEVICES * (DAYS - 1)
    expected = predicted(engine, DEVICES, DAYS)
    grown = lived.bytes_after - lived.bytes_before
    summary_row(
        f"history, {engine}: {DAYS} days of {DEVICES:,} devices",
        f"{lived.samples:,} samples",
        f"{grown / MIB:,.0f} MiB, {grown / expected:.2f} × what the documentation says",
    )
    plots = ", ".join(
        f"{name} {took_ms:.0f} ms ({lived.points[name]} points)"
        for name, took_ms in lived.plots_ms.items()
    )
    summary_row(
        f"history, {engine}: plots and jobs",
        plots,
        f"{lived.rolled_up_per_s:,.0f} samples rolled up a second; an hour of all devices in"
        f" {lived.hour_ms_max:,.0f} ms at most; deleting took {lived.delete_s:.0f} s in all",
    )
    assert grown == pytest.approx(expected, rel=TOLERANCE)
