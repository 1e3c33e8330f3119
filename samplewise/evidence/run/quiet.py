"""transformers and datasets without their own bars and notes."""

from __future__ import annotations

from datasets.utils.logging import disable_progress_bar
from transformers.utils import logging


def hush() -> None:
    """Errors only, and no bars of theirs."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bar()
