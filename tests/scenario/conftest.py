"""Started installations for all tests that do not strike them: one a module, one for browsers."""

from collections.abc import Iterator

import pytest

from tests.scenario.engines import ENGINES
from tests.scenario.http_api import Api
from tests.scenario.installation import Installation, installed
from tests.scenario.tunnel_pages import Pair, insist_nothing_failed, paired


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> str:
    """Of this run; a module that is parametrised with it is played on several."""
    return str(getattr(request, "param", ENGINES[0]))


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, engine: str) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("installation"), engine=engine) as found:
        yield found


@pytest.fixture(scope="module")
def api(installation: Installation) -> Api:
    return installation.api


@pytest.fixture(scope="package")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two sessions to pages behind routers of one demo, for a browser's tabs."""
    with paired(tmp_path_factory.mktemp("pair")) as found:
        yield found
        insist_nothing_failed(found.installation)
