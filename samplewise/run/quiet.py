"""transformers without its own bars and notes."""

from __future__ import annotations

from transformers.utils import logging


def hush() -> None:
    """Errors only, and no bars of transformers."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
