"""Layers that do not fit their inputs, tables or pools are refused when a program is made."""

import numpy as np
import pytest
from small_programs import S8, U8

from quantkeras.errors import QuantizationError
from quantkeras.numerics import Format
from quantkeras.numerics.layer import LayerParams, LayerSpec
from quantkeras.numerics.layer_windows import Pool, Window
from quantkeras.runtime import Program, ProgramInput, ProgramLayer

INPUTS = (
    ProgramInput("map", (4, 6, 3), U8),
    ProgramInput("gate", (1, 1, 3), U8),
    ProgramInput("mask", (4, 6, 1), U8),
    ProgramInput("small", (2, 6, 3), U8),
    ProgramInput("row", (3,), U8),
)


def program(
    spec: LayerSpec,
    reads: tuple[str, ...] = ("map",),
    shape: tuple[int, ...] = (4, 6, 3),
    output: Format | None = None,
    **numbers: object,
) -> Program:
    """A program of one layer called "layer"."""
    params = LayerParams(**numbers)  # type: ignore[arg-type]
    unit = np.ones(shape[-1:], np.float32)
    layer = ProgramLayer("layer", spec, params, reads, output, shape, unit)
    return Program(INPUTS, (layer,), ("layer",))


@pytest.mark.parametrize("kind", ["multiply", "subtract"])
def test_products_and_differences_take_two_inputs(kind: str) -> None:
    program(LayerSpec(kind), ("map", "gate"))
    for reads in (("map",), ("map", "map", "map")):
        with pytest.raises(QuantizationError, match=rf"'layer' \({kind}\) takes two"):
            program(LayerSpec(kind), reads)


@pytest.mark.parametrize("kind", ["maximum", "minimum", "add"])
def test_the_other_elementwise_kinds_take_two_or_more(kind: str) -> None:
    program(LayerSpec(kind), ("map", "mask", "gate"))
    with pytest.raises(QuantizationError, match="takes two or more inputs"):
        program(LayerSpec(kind), ("map",))


def test_movements_take_one_input() -> None:
    with pytest.raises(QuantizationError, match=r"\(upsample\) takes one input"):
        program(LayerSpec("upsample"), ("map", "map"))


@pytest.mark.parametrize(
    ("spec", "reads", "shape", "message"),
    [
        (LayerSpec("multiply"), ("map", "small"), (4, 6, 3), r"'layer' \(multiply\): .* broadcast"),
        (LayerSpec("multiply"), ("map", "row"), (4, 6, 3), "not the same number of axes"),
        (LayerSpec("multiply"), ("gate", "mask"), (1, 1, 3), r"gives shape \(4, 6, 3\) from"),
        (LayerSpec("slice", slices=((0, 1, 1),)), ("map",), (1, 6, 3), "'layer' .* each axis"),
        (LayerSpec("upsample", size=(2, 2)), ("map",), (8, 6, 3), r"gives shape \(8, 12, 3\)"),
        (LayerSpec("upsample", size=(2, 2)), ("row",), (3,), r"not \(height, width, channels\)"),
        (LayerSpec("concat", axis=0), ("map", "mask"), (8, 6, 3), "differ beside the axis 0"),
        (LayerSpec("reshape", shape=(5, 5)), ("map",), (5, 5), "does not fill"),
    ],
)
def test_shapes_that_do_not_fit(spec: LayerSpec, reads, shape, message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        program(spec, reads, shape)


@pytest.mark.parametrize(
    ("spec", "shape", "weights", "fits"),
    [
        (LayerSpec("conv2d", Window((2, 2))), (3, 5, 2), (2, 2, 3, 2), True),
        (LayerSpec("conv2d", Window((2, 2))), (3, 5, 2), (2, 3, 3, 2), False),
        (LayerSpec("conv2d", Window((2, 2))), (3, 5, 2), (2, 2, 2, 2), False),
        (LayerSpec("conv2d", Window((2, 2)), groups=3), (3, 5, 3), (2, 2, 1, 3), True),
        (LayerSpec("conv2d", Window((2, 2)), groups=3), (3, 5, 2), (2, 2, 1, 2), False),
        (LayerSpec("depthwise_conv2d", Window((2, 2))), (3, 5, 4), (2, 2, 2, 2), False),
        (LayerSpec("dense"), (4, 6, 2), (3, 2), True),
        (LayerSpec("dense"), (4, 6, 2), (2, 2), False),
    ],
)
def test_weights_fit_the_window_and_the_channels(spec, shape, weights, fits: bool) -> None:
    numbers = {"weights": np.ones(weights, np.int8)}
    if fits:
        program(spec, shape=shape, **numbers)
    else:
        with pytest.raises(QuantizationError, match=r"'layer': weights of shape .* do not fit"):
            program(spec, shape=shape, **numbers)


# -- tables -------------------------------------------------------------------------------------

RESCALE = {"scale": np.array(1), "shift": np.array(1), "qmin": -8, "qmax": 7}


@pytest.mark.parametrize("size", [(16,), (16, 3)])
def test_tables_list_what_the_rescale_gives(size: tuple[int, ...]) -> None:
    table = np.arange(np.prod(size)).reshape(size)
    made = program(LayerSpec("identity"), output=S8, **RESCALE, table=table)
    x = [np.full((1, *entry.shape), 4) for entry in INPUTS]
    found = made.run_integers(x, quantized=True)
    # 4 >> 1 is 2, the entry 2 - -8.
    assert found[0, 0, 0].tolist() == ([10, 10, 10] if size == (16,) else [30, 31, 32])


@pytest.mark.parametrize(
    "table",
    [
        np.zeros(15, int),
        np.zeros(17, int),
        np.zeros((3, 16), int),
        np.zeros((16, 2), int),
        np.zeros((16, 1), int),
        np.zeros((16, 3, 1), int),
        np.zeros(16),
        np.array(3),
    ],
)
def test_tables_of_another_shape_are_refused(table: np.ndarray) -> None:
    with pytest.raises(QuantizationError, match=r"'layer': a table of .* 16 for each channel"):
        program(LayerSpec("identity"), output=S8, **RESCALE, table=table)


def test_tables_beyond_16_bits_are_refused() -> None:
    numbers = RESCALE | {"qmin": 0, "qmax": 2**16, "table": np.zeros(2**16 + 1, int)}
    with pytest.raises(QuantizationError, match="a table of 65537 entries; 65536 at most"):
        program(LayerSpec("identity"), **numbers)


@pytest.mark.parametrize("engine", ["reference", "blas"])
def test_what_enters_a_table_without_a_rescale_has_its_entry(engine: str) -> None:
    fits = program(LayerSpec("identity"), qmin=0, qmax=255, table=np.arange(256) - 128)
    x = [np.full((1, *entry.shape), 200) for entry in INPUTS]
    assert (fits.run_integers(x, engine=engine, quantized=True) == 72).all()
    beyond = program(LayerSpec("identity"), qmin=0, qmax=15, table=np.arange(16))
    with pytest.raises(QuantizationError, match=r"\[0, 255\] enter a table for 0 \.\. 15"):
        beyond.engine(engine)


def test_entries_fit_the_format_of_the_layer() -> None:
    table = np.arange(16) * 10
    made = program(LayerSpec("identity"), output=S8, **RESCALE, table=table)
    with pytest.raises(QuantizationError, match=r"'layer' gives integers in \[0, 150\]"):
        made.engine()


# -- pools --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize(
    ("window", "shape"),
    [
        (Window((2, 2), padding=((2, 0), (0, 0))), (5, 5, 3)),
        (Window((2, 2), padding=((0, 0), (0, 2))), (3, 7, 3)),
        (Window((2, 1), padding=((1, 1), (0, 0)), dilation=(5, 1)), (1, 6, 3)),
    ],
)
def test_no_window_of_a_pool_sees_padding_only(kind: str, window: Window, shape) -> None:
    with pytest.raises(QuantizationError, match="'layer': .* sees nothing but padding"):
        program(LayerSpec("identity", pool=Pool(kind, window)), shape=shape)


def test_padding_up_to_the_size_of_a_pool_is_fine() -> None:
    pool = Pool("max", Window((2, 3), padding=((1, 1), (2, 0))))
    assert program(LayerSpec("identity", pool=pool), shape=(5, 6, 3)).name == "program"


def test_pools_do_not_widen_their_input() -> None:
    pool = Pool("average", Window((2, 2), input_dilation=(2, 2)))
    with pytest.raises(QuantizationError, match="'layer': a pool has no input dilation"):
        program(LayerSpec("identity", pool=pool), shape=(6, 10, 3))
