"""Which tests of the harness the quick suite leaves to the whole one."""

import pytest
from harness import LayerHarness


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a variant nothing but its exactness is quick: its kind has a case with all the tests."""
    for item in items:
        case = getattr(item, "cls", None)
        if case is not None and issubclass(case, LayerHarness) and case.variant:
            inherited = item.originalname in vars(LayerHarness)
            if inherited and item.originalname != "test_exact":
                item.add_marker(pytest.mark.slow)
