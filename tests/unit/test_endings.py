"""Every reason why a session ends has its words, wherever people are told of it."""

import pytest

from broker.connect import words
from broker.relay.web_texts import ENDED
from gateway.domain.diagnosis import advice
from wire.endings import Ended


@pytest.mark.parametrize("reason", list(Ended))
def test_every_reason_has_words(reason: Ended) -> None:
    english, spanish = ENDED[reason.value]
    assert english.endswith(".") and spanish.endswith(".") and english != spanish
    assert words.of_end(reason.value).endswith(f" ({reason.value})")
    assert advice(reason.value) != advice("never heard of")


def test_there_are_words_for_nothing_else() -> None:
    assert set(ENDED) == set(Ended) == words.ENDS
