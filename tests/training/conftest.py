"""A tiny dataset for every test that trains."""

import pytest
from training_data import write_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"))
