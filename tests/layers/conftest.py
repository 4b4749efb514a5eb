"""Which tests of the harness the quick suite leaves to the whole one."""

import pytest
from harness import LayerHarness

RELATED = ("test_exact_at_other_widths", "test_exact_after_training[moving]")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a variant nothing but its exactness is quick: its kind has a case with all the tests."""
    for item in items:
        case = getattr(item, "cls", None)
        if case is None or not issubclass(case, LayerHarness):
            continue
        inherited = item.originalname in vars(LayerHarness)
        left_out = case.related and item.name in RELATED
        if left_out or (case.variant and inherited and item.originalname != "test_exact"):
            item.add_marker(pytest.mark.slow)
