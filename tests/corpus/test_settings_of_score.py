"""What `score` is asked for is looked through before anything is read."""

import pytest

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.settings import ScoreSettings, settings_from
from samplewise.data.row_shapes import FIELDS


@pytest.mark.parametrize("form", ["x", "", "Alpaca", "messages "])
def test_a_form_that_is_not_known_is_named_once_for_all_rows(form):
    with pytest.raises(SamplewiseError, match=r"^--format: expected auto or one of alpaca, .*got '"):
        settings_from({"format": form}, ScoreSettings())


@pytest.mark.parametrize("form", ["auto", *FIELDS])
def test_every_form_is_taken(form):
    assert settings_from({"format": form}, ScoreSettings()).format == form
