import pytest
from kernel_cases import Micro, make_micro


@pytest.fixture
def micro() -> Micro:
    return make_micro()
