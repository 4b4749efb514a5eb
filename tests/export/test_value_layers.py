"""Every kind of hardware layer as float operators between Q and DQ: within one step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from layer_cases import ALL_KINDS, layer_cases
from runtime.small_programs import one_layer
from strategies import examples
from value_running import assert_within_one, with_output_format

from quantkeras.numerics.hardware_kinds import Trait


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_any_layer(kind: str, form: str) -> None:
    @examples(4, 30)
    @given(layer_cases((kind,)))
    def check(case: Any) -> None:
        passes = Trait.PASSES in case.spec.traits and Trait.MERGES not in case.spec.traits
        if Trait.MOVES in case.spec.traits or (passes and case.params.scale is None):
            # What only passes keeps its value: in networks the step of the output says so.
            case.params.input_shifts = ()
        program = with_output_format(one_layer(case))
        inputs = {f"x{i}": x for i, x in enumerate(case.inputs)}
        assert_within_one(program, inputs, format=form)

    check()
