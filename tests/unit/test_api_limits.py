"""Fair limits: one caller's crowd is slowed down and turned away, others are not."""

import pytest

from gateway.api import limits as module
from gateway.api.limits import BURST, HAND_OVERS, RATE_PER_S, WAIT_S_MAX, Limits, TooFast


async def test_a_bucket_empties_and_fills_again() -> None:
    now_s, slept_s = 100.0, []

    async def sleep(seconds: float) -> None:
        slept_s.append(seconds)

    limits = Limits(lambda: now_s, sleep)
    for left in range(BURST - 1, -1, -1):
        assert (await limits.take("joe")).remaining == left
    assert not slept_s
    # From here each waits for its turn, and the turns are one after another.
    for _ in range(int(WAIT_S_MAX * RATE_PER_S)):
        await limits.take("joe")
    assert slept_s == sorted(slept_s) and slept_s[-1] <= WAIT_S_MAX
    with pytest.raises(TooFast) as caught:
        await limits.take("joe")
    assert caught.value.retry_s >= WAIT_S_MAX
    assert (await limits.take("ann")).remaining == BURST - 1
    now_s += 60
    turn = await limits.take("joe")
    assert turn.headers() == {
        "RateLimit-Limit": str(BURST),
        "RateLimit-Remaining": str(BURST - 1),
        "RateLimit-Reset": "1",
    }


async def test_hand_overs_are_few_and_nobody_waits_for_one() -> None:
    now_s = 100.0
    limits = Limits(lambda: now_s, allowance=HAND_OVERS)
    for _ in range(30):
        await limits.take("joe")
    with pytest.raises(TooFast) as caught:
        await limits.take("joe")
    assert caught.value.retry_s == 2
    now_s += 2
    await limits.take("joe")
    with pytest.raises(TooFast):
        await limits.take("joe")
    assert (await limits.take("ann")).remaining == 29


async def test_unknown_credentials_count_for_their_address() -> None:
    limits = Limits(lambda: 0.0)
    assert limits.whose(b"guessed", "10.0.0.1") == "address 10.0.0.1"
    assert limits.whose(None, "10.0.0.1") == "address 10.0.0.1"
    limits.learn(b"good", "user:7")
    assert limits.whose(b"good", "10.0.0.1") == "user:7"


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUCKETS_MAX", 50)
    monkeypatch.setattr(module, "NAMES_MAX", 50)
    limits = Limits(lambda: 0.0)
    for n in range(200):
        await limits.take(f"address {n}")
        limits.learn(str(n).encode(), f"user:{n}")
    assert len(limits._buckets) <= 50 and len(limits._names) <= 50
