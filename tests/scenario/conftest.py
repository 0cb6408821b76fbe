"""One started installation for all tests of a module that do not strike it."""

from collections.abc import Iterator

import pytest

from tests.scenario.http_api import Api
from tests.scenario.installation import Installation, installed


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("installation")) as found:
        yield found


@pytest.fixture(scope="module")
def api(installation: Installation) -> Api:
    return installation.api
