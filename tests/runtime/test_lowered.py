"""Lowered programs: their memory plan is run as a device would run it."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkeras.numerics.arrays import IntArrays
from quantkeras.numerics.layer import run_layer
from quantkeras.runtime import Lowered, Program, lower
from quantkeras.runtime.arena import place
from quantkeras.runtime.lowered import StoredTensor, storage_type
from quantkeras.runtime.packing import NIBBLES, pack, unpack
from quantkeras.runtime.schedule import Block, most_alive
from tests.layer_cases import LayerCase, layer_cases
from tests.runtime.small_programs import conv_dense, gated, one_layer, two_by_two
from tests.runtime.test_summary import chain


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    first = draw(st.integers(0, 12))
    return Block(draw(st.integers(0, 40)), first, draw(st.integers(first, 12)))


@given(st.lists(blocks(), max_size=14), st.sampled_from([1, 4, 16]))
def test_blocks_that_meet_never_overlap(found: list[Block], alignment: int) -> None:
    arena = place(found, alignment)
    assert all(offset % alignment == 0 for offset in (*arena.offsets, arena.size))
    assert arena.size >= most_alive(found)[0]
    places = list(zip(found, arena.offsets, strict=True))
    for (one, low), (other, high) in combinations(places, 2):
        if one.meets(other):
            assert low + one.size <= high or high + other.size <= low
    assert all(offset + block.size <= arena.size for block, offset in places)


@given(st.lists(blocks(), max_size=14))
def test_what_is_alive_at_one_time_is_counted(found: list[Block]) -> None:
    alive = [sum(b.size for b in found if b.first <= t <= b.last) for t in range(13)]
    most, where = most_alive(found)
    assert most == max(alive) and alive[where] == most


def run_in_arena(lowered: Lowered, inputs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs for one sample, with every tensor in its type at its offset and nowhere else."""
    memory = np.full(lowered.arena_bytes, 0xA5, np.uint8)

    def store(tensor: StoredTensor, values: np.ndarray) -> None:
        data = pack(values.reshape(tensor.shape), tensor.dtype).tobytes()
        assert len(data) == tensor.size
        memory[tensor.offset : tensor.offset + tensor.size] = np.frombuffer(data, np.uint8)

    def fetch(tensor: StoredTensor) -> np.ndarray:
        data = memory[tensor.offset : tensor.offset + tensor.size]
        if tensor.dtype not in NIBBLES:
            data = data.view(tensor.dtype).reshape(tensor.shape)
        return unpack(data, tensor.dtype, tensor.shape, "int64")

    program = lowered.program
    for entry, values in zip(program.inputs, inputs, strict=True):
        store(lowered.tensors[entry.name], values)
    for each in lowered.layers:
        layer, params, arrays = each.layer, each.layer.params, IntArrays()
        read = [fetch(tensor)[None] for tensor in each.inputs]
        made = run_layer(layer.spec, params, read, arrays)[0]
        if each.rescale is not None and params.table is None:
            plain = type(params)(**{**vars(params), "scale": None, "shift": None})
            acc = run_layer(layer.spec, plain, read, arrays)[0].astype(object)
            numbers = each.rescale
            product = acc * numbers.factor.astype(object) + numbers.half.astype(object)
            assert abs(product).max(initial=0) < 2 ** (31 if numbers.dtype == "int32" else 63)
            values = product >> numbers.shift.astype(object)
            np.testing.assert_array_equal(np.clip(values, numbers.low, numbers.high), made)
        if each.output.view_of is None:
            store(each.output, made)
    return {name: fetch(lowered.tensors[name]) for name in program.outputs}


def assert_runs(program: Program, inputs: list[np.ndarray], **choices: Any) -> None:
    lowered = lower(program, **choices)
    wanted = program.run_integers(
        [x[None] for x in inputs], program.outputs, engine="reference", quantized=True
    )
    for name, values in run_in_arena(lowered, inputs).items():
        np.testing.assert_array_equal(values, wanted[name][0])


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("make", [conv_dense, two_by_two, gated])
def test_small_programs_run_in_their_arena(make: Any, packed: bool, rng: Any) -> None:
    program = make()
    inputs = [
        rng.integers(entry.format.qmin, entry.format.qmax + 1, entry.shape)
        for entry in program.inputs
    ]
    assert_runs(program, inputs, packed=packed, alignment=8)


@given(layer_cases())
def test_layers_run_in_their_arena(case: LayerCase) -> None:
    assert_runs(one_layer(case), [x[0] for x in case.inputs])


@given(st.data())
def test_networks_run_in_their_arena(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 20), min_size=2, max_size=8))
    names = ["x", *(f"l{index}" for index in range(len(sizes)))]
    reads = []
    for index, size in enumerate(sizes):
        widths = [8, *sizes[:index]]
        equal = [n for n, width in zip(names, widths, strict=False) if width == size]
        pair = data.draw(st.booleans()) and len(equal) >= 2
        one = st.sampled_from(names[: index + 1])
        reads.append(tuple(data.draw(st.permutations(equal))[:2]) if pair else (data.draw(one),))
    program = chain(sizes, reads)
    assert_runs(program, [np.arange(8) - 4])


@pytest.mark.parametrize(
    ("low", "high", "packed", "wanted"),
    [
        (0, 15, True, "uint4"),
        (0, 15, False, "int8"),
        (0, 255, True, "uint8"),
        (-128, 127, True, "int8"),
        (-129, 0, True, "int16"),
        (0, 65535, True, "uint16"),
        (-1, 65535, True, "int32"),
        (0, 2**40, True, "int64"),
    ],
)
def test_the_narrowest_type_that_holds_them(low: int, high: int, packed: bool, wanted: str) -> None:
    assert storage_type(low, high, packed) == wanted


def test_a_residual_block_needs_what_lives_at_its_sum() -> None:
    program = chain([16, 4, 16, 16, 2], [("x",), ("l0",), ("l1",), ("l0", "l2"), ("l3",)])
    lowered = lower(program)
    assert (lowered.arena_bytes, lowered.least_bytes, lowered.peak_layer) == (48, 48, "l3")
    assert lowered.tensors["l0"].lives == range(0, 4)
    assert lowered.tensors["l1"].size == 4
