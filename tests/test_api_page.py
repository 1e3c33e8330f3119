"""docs/api: the public surface. A public name that is missing from the page, or has no docstring, fails."""

import importlib
import inspect

import api_page
import pytest


def test_the_page_is_what_the_code_has():
    assert api_page.PAGE.read_text(encoding="utf-8") == api_page.page(), "run python tools/api_page.py"


@pytest.mark.parametrize("module", api_page.PUBLIC)
def test_every_public_name_is_there_and_says_what_it_is(module):
    found = importlib.import_module(module)
    for name in api_page.names_of(module):
        value = getattr(found, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__doc__, f"{module}.{name} has no docstring"
            assert not value.__doc__.startswith(f"{name}("), f"{module}.{name}: the docstring that dataclasses make"
