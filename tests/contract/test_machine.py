"""Any sequence of operations, heartbeats, jobs and time, against a plain model of what is fair."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import SummaryRow
from tests.contract.machine_base import SERIALS
from tests.contract.machine_moves import CreditMoveRules, DeviceMoveRules
from tests.contract.machine_rules import DeviceRules, TreeRules
from tests.databases import Databases


class LedgerMachine(TreeRules, CreditMoveRules, DeviceRules, DeviceMoveRules):
    """Everything together, beginning with a few devices that are served."""

    def __init__(self) -> None:
        super().__init__()
        self.grant(pick=1, days=90, lasts=None, free=False)
        for serial in SERIALS[:3]:
            self.register(serial, 1, "on_contact", True)
            self.hear([serial], 1)


def machine(databases: Databases) -> type[LedgerMachine]:
    """The machine's class over such databases."""
    return type("Machine", (LedgerMachine,), {"databases": databases})


QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def play(databases: Databases, *, examples: int, steps: int, derandomize: bool) -> None:
    run_state_machine_as_test(
        machine(databases),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            suppress_health_check=QUIET,
        ),
    )


STEPS = 50


def lives(databases: Databases) -> int:
    # Each of a statement's ways to the other engine and back takes its time.
    return 200 if databases.engine == "sqlite" else 50


@pytest.mark.timeout(600)
def test_lives_of_an_installation(databases: Databases) -> None:
    play(databases, examples=lives(databases), steps=STEPS, derandomize=True)


ROUNDS = 20


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_many_lives_of_an_installation(
    databases: Databases, number: int, summary_row: SummaryRow
) -> None:
    examples = lives(databases)
    play(databases, examples=examples, steps=STEPS, derandomize=False)
    amount = (
        f"{examples} of up to {STEPS} steps on {databases.engine}, round {number + 1} of {ROUNDS}"
    )
    summary_row("lives of an installation", amount, "equal to the plain ledger after each")
