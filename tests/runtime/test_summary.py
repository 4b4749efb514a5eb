"""What a program costs, and the table that says so."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from small_programs import S8, conv_dense, gated, two_by_two

from quantkeras.numerics import Format
from quantkeras.numerics.layer import LayerParams, LayerSpec
from quantkeras.numerics.layer_windows import Pool, Window
from quantkeras.runtime import Program, ProgramInput, ProgramLayer
from quantkeras.runtime.costs import program_costs
from quantkeras.runtime.schedule import last_uses, live_elements
from quantkeras.runtime.summary import describe, kernel


def table(program: Program, **options: int) -> list[str]:
    lines: list[str] = []
    program.summary(print_fn=lines.append, **options)
    return lines


def test_figures_worked_out_by_hand() -> None:
    costs = program_costs(conv_dense())
    conv, flatten, dense = costs.layers
    # Inputs up to 255: 255 * (1 + 3 + 4) + 5 up, 255 * -2 + 5 down.
    assert (conv.macs, conv.weights, conv.weight_bytes) == (4, 4, 2)
    assert (conv.accumulator, conv.accumulator_bits) == (2045, 12)
    assert (flatten.macs, flatten.weight_bytes, flatten.accumulator) == (0, 0, 255)
    # conv gives up to 255: 3 * 255 + 7 = 772, -5 * 255 - 1 = -1276.
    assert (dense.macs, dense.weight_bytes) == (2, 2)
    assert (dense.accumulator, dense.accumulator_bits, dense.output_bits) == (1276, 12, 12)
    assert (costs.macs, costs.weight_bytes) == (6, 4)
    # x (4 bytes) and conv (1 byte) together.
    assert (costs.peak_bytes, costs.peak_layer) == (5, "conv")


def test_weights_of_a_shared_layer_count_once() -> None:
    program = conv_dense()
    twin = replace(program["conv"], name="twin")
    shared = Program(program.inputs, (*program.layers, twin), ("scores", "twin"))
    assert program_costs(shared).weight_bytes == 4
    assert program_costs(shared).macs == 10


def chain(sizes: list[int], reads: list[tuple[str, ...]]) -> Program:
    """Layers l0, l1, ... that only pass on or add (n,) tensors; for live ranges."""
    layers = tuple(
        ProgramLayer(
            f"l{i}",
            LayerSpec("add" if len(read) > 1 else "dense"),
            LayerParams(scale=np.array(1), shift=np.array(0), qmin=-128, qmax=127)
            if len(read) > 1
            else LayerParams(
                weights=np.ones((8 if read[0] == "x" else sizes[int(read[0][1:])], size), np.int8),
                scale=np.array(1),
                shift=np.array(0),
                qmin=-128,
                qmax=127,
            ),
            read,
            S8,
            (size,),
        )
        for i, (size, read) in enumerate(zip(sizes, reads, strict=True))
    )
    return Program((ProgramInput("x", (8,), S8),), layers, (layers[-1].name,))


def test_live_ranges_of_a_residual_block() -> None:
    # x 8 -> l0 16 -> l1 4 -> l2 16 -> l3 = l0 + l2 -> l4 2: l0 waits until l3.
    program = chain([16, 4, 16, 16, 2], [("x",), ("l0",), ("l1",), ("l0", "l2"), ("l3",)])
    assert last_uses(program, ("l4",)) == [["x"], [], ["l1"], ["l0", "l2"], ["l3"]]
    assert last_uses(program, ("l4", "l0", "x")) == [[], [], ["l1"], ["l2"], ["l3"]]
    assert live_elements(program) == 16 + 16 + 16
    costs = program_costs(program)
    assert (costs.peak_bytes, costs.peak_layer) == (48, "l3")


def test_flatten_takes_no_memory_but_permute_does() -> None:
    fmt = Format(8, False, 0)
    view, copy = (
        ProgramLayer("move", spec, LayerParams(), ("x",), fmt, shape)
        for spec, shape in [
            (LayerSpec("flatten"), (24,)),
            (LayerSpec("permute", dims=(2, 1, 0)), (4, 3, 2)),
        ]
    )
    for layer, expected in ((view, 24), (copy, 48)):
        program = Program((ProgramInput("x", (2, 3, 4), fmt),), (layer,), ("move",))
        assert program_costs(program).peak_bytes == expected


def test_text() -> None:
    lines = table(conv_dense())
    assert lines[0] == "tiny"
    assert lines[1].split("  ")[0] == "layer"
    cells = lines[3].split()
    assert cells[:6] == ["conv", "conv2d+relu", "2x2x1", "1x1x1", "8/4/8", "2x2"]
    assert cells[6:] == ["4", "2", "2,045", "12", "20"]
    assert "MACs 6 · weights 4 bytes · activations at most 5 bytes at once (conv)" in lines
    assert lines[-1] == "stays in float: probabilities (Softmax): it has no integer form"
    assert len({len(line) for line in lines[1:3]}) == 1


def test_spare_bits_follow_the_accumulator() -> None:
    assert table(conv_dense(), accumulator_bits=10)[3].split()[-1] == "-2"


def test_several_inputs_and_pools_are_named() -> None:
    lines = table(two_by_two())
    assert "add+average_pool" in lines[3]
    assert "4x4x2" in lines[3]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (LayerSpec("add"), "-"),
        (LayerSpec("conv2d", Window((3, 1))), "3x1"),
        (LayerSpec("conv2d", Window((3, 3), (2, 2)), groups=4), "3x3/2 g4"),
        (LayerSpec("conv2d", Window((3, 3), (2, 1), dilation=(2, 2))), "3x3/2x1 d2"),
        (LayerSpec("conv2d", Window((4, 4), input_dilation=(2, 2))), "4x4 up2"),
        (LayerSpec("depthwise_conv2d", Window((3, 3), input_dilation=(2, 1))), "3x3 up2x1"),
        (LayerSpec("upsample", size=(2, 2)), "up2"),
        (LayerSpec("upsample", size=(2, 3)), "up2x3"),
        (LayerSpec("slice", slices=((0, 1, 1),)), "-"),
    ],
)
def test_kernels(spec: LayerSpec, text: str) -> None:
    assert kernel(spec) == text


@pytest.mark.parametrize(
    ("spec", "table", "text"),
    [
        (LayerSpec("multiply"), False, "multiply"),
        (LayerSpec("subtract", relu=True), True, "subtract+relu+table"),
        (LayerSpec("conv2d", Window((4, 4), input_dilation=(2, 1))), False, "conv2d transposed"),
        (
            LayerSpec(
                "depthwise_conv2d",
                Window((4, 4), input_dilation=(2, 2)),
                pool=Pool("global_average"),
            ),
            True,
            "depthwise_conv2d transposed+global_average_pool+table",
        ),
    ],
)
def test_steps(spec: LayerSpec, table: bool, text: str) -> None:
    assert describe(spec, table) == text


def test_the_newer_steps_in_the_table() -> None:
    lines = table(gated())
    kinds = [line.split("  ")[1].strip() for line in map(squeezed, lines[3:10])]
    assert kinds == [
        "multiply",
        "conv2d transposed+table",
        "slice",
        "identity+average_pool",
        "upsample",
        "maximum",
        "subtract",
    ]
    assert "3x2x2 1x1x2" in lines[3]
    assert "4x4 up2" in lines[4]


def squeezed(line: str) -> str:
    """A line of a table with two blanks between its cells."""
    return re.sub(" {2,}", "  ", line)


def test_transposed_convolutions_multiply_pixels_only() -> None:
    costs = {cost.layer.name: cost for cost in program_costs(gated()).layers}
    up = costs["up"]
    assert (up.macs, up.weights) == (3 * 2 * 64, 64)
    assert {name for name, cost in costs.items() if cost.macs} == {"up"}
    # The sums of an average over 4, 6 and 9 elements count to 36: 36 * 128.
    assert costs["mean"].accumulator == 36 * 128
    assert costs["product"].accumulator == 128 * 255
    # mean gives 36 * -128 * 181 / 8192 = -101.8 up to 36 * 127 * 181 / 8192 = 101.02.
    assert costs["largest"].accumulator == 127
    assert costs["difference"].accumulator == 101 + 2 * 128


def test_a_reshape_that_ends_in_a_table_is_no_view() -> None:
    fmt = Format(8, False, 0)
    for numbers, expected in (({}, 24), ({"qmax": 255, "table": np.arange(256)}, 48)):
        move = ProgramLayer(
            "move", LayerSpec("flatten"), LayerParams(**numbers), ("x",), fmt, (24,)
        )
        program = Program((ProgramInput("x", (2, 3, 4), fmt),), (move,), ("move",))
        assert program_costs(program).peak_bytes == expected


def test_without_rich_it_is_plain_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    conv_dense().summary()
    assert capsys.readouterr().out.splitlines() == table(conv_dense())


def test_a_terminal_gets_a_table_of_rich(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    conv_dense().summary()
    out = capsys.readouterr().out
    assert "│" in out
    assert "2,045" in out
    assert "probabilities" in out
