"""Programs compiled for the tests of this directory."""

import pytest
from tests.binary.metadata_support import Workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("metadata"))
