"""The fast engine gives the integers of the reference, on programs of many shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_cases import LayerCase, layer_cases, windows
from small_programs import conv_dense, one_layer

from quantkeras.errors import AccumulatorTooWide, QuantizationError
from quantkeras.numerics import Format
from quantkeras.numerics.hardware_kinds import KINDS, Trait
from quantkeras.numerics.layer import LayerParams, LayerSpec
from quantkeras.numerics.layer_windows import Pool, Window
from quantkeras.runtime import Program, ProgramInput, ProgramLayer, engines
from quantkeras.runtime.engines import BlasEngine, ReferenceEngine
from quantkeras.runtime.program_bounds import program_bounds


@given(layer_cases())
def test_blas_equals_reference_on_any_layer(case: LayerCase) -> None:
    program = one_layer(case)
    expected = program.run_integers(case.inputs, "all", engine="reference", quantized=True)
    result = program.run_integers(case.inputs, "all", engine="blas", quantized=True)
    for name, integers in expected.items():
        assert np.array_equal(result[name], integers)


@st.composite
def chains(draw: st.DrawFn) -> Program:
    """Residual networks of a few layers on a map of some size, with movements at the end."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size, channels = (draw(st.integers(3, 7)), draw(st.integers(3, 7))), draw(st.integers(1, 4))
    bits = draw(st.sampled_from([4, 8, 16]))
    fmt = Format(bits, draw(st.booleans()), 0)
    inputs = (ProgramInput("x", (*size, channels), fmt),)
    layers: list[ProgramLayer] = []
    last, formats = "x", {"x": fmt}
    for index in range(draw(st.integers(1, 4))):
        kinds = ("conv2d", "depthwise_conv2d", "multiply", "subtract", "maximum", "minimum", "add")
        name, kind = f"layer{index}", draw(st.sampled_from(kinds))
        relu = draw(st.booleans())
        out = Format(bits, not relu, 0)
        params = LayerParams(scale=np.array(181), shift=np.array(draw(st.integers(4, 20))))
        params.qmin, params.qmax = out.qmin, out.qmax
        window, sources = None, (last,)
        if Trait.ELEMENTWISE in KINDS[kind]:
            sources = (last, draw(st.sampled_from(sorted(formats))))
            params.input_shifts = (np.array(draw(st.integers(0, 3))), None)
            if bits == 8 and draw(st.booleans()):
                table_size = draw(st.sampled_from([(256,), (256, channels)]))
                params.table = rng.integers(out.qmin, out.qmax + 1, table_size)
        else:
            drawn = draw(windows(*size))
            window = Window(drawn.size, padding="same", dilation=drawn.dilation)
            last_axis = channels if kind == "conv2d" else 1
            shape = (*window.size, channels, last_axis)
            params.weights = rng.integers(-127, 128, shape).astype(np.int8)
        spec = LayerSpec(kind, window, relu=relu)
        layers.append(ProgramLayer(name, spec, params, sources, out, (*size, channels)))
        last, formats[name] = name, out
    pool = LayerSpec("identity", pool=Pool("max", Window((2, 2), (1, 1))))
    pooled = (size[0] - 1, size[1] - 1, channels)
    half, all_of = (2 * pooled[0] - 2, None, -2), (0, None, 1)
    turned = (pooled[2], pooled[0], pooled[1])
    last_format = formats[last]
    for name, spec, shape in [
        ("pool", pool, pooled),
        ("grow", LayerSpec("upsample", size=(2, 1)), (2 * pooled[0], *pooled[1:])),
        ("halve", LayerSpec("slice", slices=(half, all_of, all_of)), pooled),
        ("turn", LayerSpec("permute", dims=(2, 0, 1)), turned),
        ("flat", LayerSpec("flatten"), (int(np.prod(turned)),)),
    ]:
        layers.append(ProgramLayer(name, spec, LayerParams(), (last,), last_format, shape))
        last = name
    return Program(inputs, tuple(layers), ("flat", layers[0].name))


@given(chains())
def test_blas_equals_reference_on_networks(program: Program) -> None:
    entry = program.inputs[0]
    rng = np.random.default_rng(0)
    x = rng.integers(entry.format.qmin, entry.format.qmax + 1, (3, *entry.shape))
    expected = program.run_integers(x, "all", engine="reference", quantized=True)
    everything = program.run_integers(x, "all", 2, quantized=True)
    outputs = program.run_integers(x, quantized=True)
    bounds = program_bounds(program)
    for name, integers in expected.items():
        assert np.array_equal(everything[name], integers)
        assert name == "x" or bounds[name].output.contains(integers)
    for name, integers in zip(program.outputs, outputs, strict=True):
        assert np.array_equal(integers, expected[name])


@pytest.mark.parametrize("engine", [ReferenceEngine, BlasEngine])
def test_both_refuse_what_they_could_not_compute_exactly(engine) -> None:
    fmt = Format(16, False, 0)
    params = LayerParams(weights=np.full((1, 1, 1, 1), 127), input_shifts=(np.array([31]),))
    wide = ProgramLayer(
        "wide",
        LayerSpec("conv2d", Window((1, 1))),
        params,
        ("x",),
        None,
        (1, 1, 1),
        np.float32([1]),
    )
    program = Program((ProgramInput("x", (1, 1, 1), fmt),), (wide,), ("wide",))
    with pytest.raises(AccumulatorTooWide, match="layer 'wide'"):
        engine(program)


def test_a_blas_that_rounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shortened(np.ndarray):
        """float32 whose products forget their last bits."""

        def __matmul__(self, other: np.ndarray) -> np.ndarray:
            exact = np.asarray(self) @ np.asarray(other)
            return exact if exact.dtype != np.float32 else np.floor(exact / 8) * 8

    arange = np.arange
    monkeypatch.setattr(np, "arange", lambda n: arange(n).view(Shortened))
    engines.check_blas.cache_clear()
    with pytest.raises(QuantizationError, match=r"float32 exactly .* 'reference'"):
        conv_dense().engine("blas")


def test_an_engine_is_made_once() -> None:
    program = conv_dense()
    assert program.engine("blas") is program.engine("blas")


def test_nothing_is_dropped_that_was_asked_for() -> None:
    program = conv_dense()
    x = np.ones((1, 2, 2, 1), np.int64)
    for keep in (("x",), ("conv",), ("x", "scores")):
        assert set(program.engine().run({"x": x}, keep)) == set(keep)
