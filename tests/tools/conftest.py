"""The fuzzers hush libraries for their own process: here others follow in it."""

import logging

import datasets
import pytest
import transformers


@pytest.fixture(autouse=True)
def spoken_again():
    """Logs and bars as they were before."""
    level, disabled = transformers.logging.get_verbosity(), logging.root.manager.disable
    yield
    logging.disable(disabled)
    transformers.logging.set_verbosity(level)
    datasets.enable_progress_bars()
