"""Element-wise functions by table, alone and behind other layers: see harness.py."""

from functools import cache

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from harness import LayerHarness, case_of, save, side_by_side
from keras import ops
from parameters import slow

from quantkeras.layers import (
    QuantizedActivation,
    QuantizedAdd,
    QuantizedAveragePooling2D,
    QuantizedConcatenate,
    QuantizedConv2D,
    QuantizedConv2DTranspose,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    QuantizedGlobalAveragePooling2D,
    QuantizedMultiply,
    QuantizedReLU,
)
from quantkeras.layers.element_function import minimum_of, value_rows
from quantkeras.numerics.layer_windows import Pool, Window
from sanitize.functions import FUNCTIONS
from sanitize.keras_io.user import user_function
from sanitize.user_functions import register_function, unregister_function

MAP = (5, 6, 3)
WIDTHS = tuple((8, bits, True) for bits in (2, 3, 5, 7, 16))
TABLE = 5e-3  # what enters a table has 12 bits at most


@keras.saving.register_keras_serializable("test_function_layers")
def wobble(x):
    """A function that no table of names holds."""
    return x * ops.sigmoid(1.7 * x) + 0.1 * ops.sin(3.0 * x)


class FunctionCase(LayerHarness):
    """What the cases here share."""

    tolerance = TABLE


class TestSilu(FunctionCase):
    variant = True
    eager_training = False
    layer = QuantizedActivation
    function = {"function": "silu"}
    widths = WIDTHS


class TestSigmoidOfUnsigned(FunctionCase):
    variant = True
    layer = QuantizedActivation
    function = {"function": "sigmoid"}
    signed_inputs = (False,)
    table_signed = False
    rectified = True


class TestPrelu(FunctionCase):
    related = True
    eager_training = False
    layer = QuantizedActivation
    function = {"function": "prelu"}
    widths = (*WIDTHS, (8, 8, False))


class TestUserFunction(FunctionCase):
    variant = True
    layer = QuantizedActivation
    function = {"function": "user", "user": user_function("wobble", wobble)}


class TestConv2DSilu(FunctionCase):
    related = True
    eager_training = False
    layer = QuantizedConv2D
    arguments = {"filters": 4, "kernel_size": 3, "padding": "same"}
    function = {"function": "silu"}


class TestConv2DPreluMaxPool(FunctionCase):
    variant = True
    layer = QuantizedConv2D
    arguments = {
        "filters": 4,
        "kernel_size": 2,
        "pool": Pool("max", Window((2, 2), (2, 2), "same")),
    }
    function = {"function": "prelu"}


class TestConv2DTanhAveragePool(FunctionCase):
    variant = True
    layer = QuantizedConv2D
    arguments = {"filters": 3, "kernel_size": 2, "pool": Pool("global_average")}
    function = {"function": "tanh"}
    tolerance = 1e-2


class TestConv2DTransposeGelu(FunctionCase):
    variant = True
    layer = QuantizedConv2DTranspose
    arguments = {"filters": 3, "kernel_size": 2, "strides": 2}
    function = {"function": "gelu", "approximate": False}
    shapes = ((3, 3, 2),)


class TestDepthwiseHardSilu(FunctionCase):
    variant = True
    layer = QuantizedDepthwiseConv2D
    arguments = {"kernel_size": 3, "strides": 2, "padding": "same"}
    function = {"function": "hard_silu"}


class TestDenseSoftplus(FunctionCase):
    variant = True
    layer = QuantizedDense
    arguments = {"units": 5}
    shapes = ((9,),)
    function = {"function": "softplus"}
    rectified = True


class TestAddLeaky(FunctionCase):
    variant = True
    layer = QuantizedAdd
    shapes = (MAP, MAP)
    function = {"function": "leaky_relu", "negative_slope": 0.2}


class TestMultiplyTanh(FunctionCase):
    variant = True
    layer = QuantizedMultiply
    shapes = (MAP, (1, 1, 3))
    function = {"function": "tanh"}


class TestConcatenatePrelu(FunctionCase):
    variant = True
    layer = QuantizedConcatenate
    shapes = ((4, 5, 2), (4, 5, 3))
    signed_inputs = (True, False)
    function = {"function": "prelu"}


class TestReLUSqrt(FunctionCase):
    """A function whose slope is infinite at zero, and has no value below."""

    variant = True
    layer = QuantizedReLU
    arguments = {"max_value": 3.0}
    function = {"function": "power", "exponent": 0.5}
    table_signed = False
    rectified = True
    tolerance = 2e-2  # steep at zero


class TestAveragePoolingElu(FunctionCase):
    variant = True
    layer = QuantizedAveragePooling2D
    arguments = {"pool_size": 3, "strides": 2, "padding": "same"}
    function = {"function": "elu", "alpha": 1.0}
    tolerance = 1e-2


class TestGlobalAveragePoolingSigmoid(FunctionCase):
    variant = True
    layer = QuantizedGlobalAveragePooling2D
    function = {"function": "hard_sigmoid"}
    rectified = True
    tolerance = 1e-2


# -- every function, once ---

CHOSEN = {
    "clip": {"low": -0.4, "high": 0.9},
    "general_relu": {"max_value": 1.1, "negative_slope": 0.2, "threshold": 0.3},
    "threshold": {"threshold": 0.2, "default_value": 0.1},
    "power": {"exponent": 2.0},
}
POSITIVE_ONLY = {"sqrt", "rsqrt", "log", "log1p", "log2", "log10", "reciprocal"}
NAMES = sorted(FUNCTIONS.keys() - {"user"})
#: Of each sort: with a kink or a jump, attributes of its own, poles, never negative, by its table
#: alone. What is particular to a function are its entries, not the layer.
FEW = ("absolute", "clip", "gelu", "general_relu", "log", "power", "sigmoid", "silu", "threshold")
OTHERS = tuple(sorted(set(NAMES) - set(FEW)))
#: Of another name in Keras; the reader's tests compare them.
NAMED_OTHERWISE = {"hard_sigmoid_keras2", "gelu", "general_relu", "clip", "power", "threshold"}


def attributes(name):
    return {"function": name, **FUNCTIONS[name].parameters, **CHOSEN.get(name, {})}


def function_case(name, positive):
    """A QuantizedActivation of that function; positive: its inputs are 0.5 and more."""
    attrs = attributes(name)
    unsigned = minimum_of(attrs, positive) >= 0
    case = case_of(
        f"Case{name}",
        layer=QuantizedActivation,
        function=attrs,
        rectified=unsigned,
        signed_inputs=(not positive,),
        table_signed=not positive,
    )
    if positive:
        type(case).samples = lambda self, count=6: [
            np.abs(x) + 0.5 for x in LayerHarness.samples(self, count)
        ]
    return case


@cache
def side_by_side_functions(names):
    """A model with a branch per function, its layers named after them, and its inputs."""
    cases = {name: function_case(name, name in POSITIVE_ONLY) for name in names}
    return side_by_side({name: (case, (8, 8, True)) for name, case in cases.items()})


def all_beside(name):
    """The names of the functions in whose model that one is."""
    return FEW if name in FEW else OTHERS


@pytest.mark.slow
@pytest.mark.parametrize("names", [FEW, *slow(OTHERS)], ids=["few", "others"])
def test_every_function_is_exact(names):
    model, arrays = side_by_side_functions(names)
    program = assert_exact(model, arrays, graph=False)
    for name, integers in program.run_integers(arrays, "all").items():
        assert np.ptp(integers) > 1, name


@pytest.mark.slow
@pytest.mark.parametrize("names", [FEW, OTHERS], ids=["few", "others"])
def test_every_function_is_saved_and_loaded(names, tmp_path):
    model, arrays = side_by_side_functions(names)
    save(model, tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras", compile=False)
    for name, found, wanted in zip(names, loaded(arrays), model(arrays), strict=True):
        np.testing.assert_array_equal(as_numpy(found), as_numpy(wanted), err_msg=name)


@pytest.mark.parametrize(
    "name",
    [
        *sorted(set(FEW) - NAMED_OTHERWISE),
        *slow(*sorted(set(OTHERS) - NAMED_OTHERWISE)),
    ],
)
def test_every_function_means_what_keras_computes(name):
    names = all_beside(name)
    model, arrays = side_by_side_functions(names)
    layer, x = model.get_layer(name), arrays[names.index(name)]
    direct = getattr(keras.ops, name, None)
    direct = direct or getattr(keras.activations, name)
    if name == "leaky_relu":
        wanted = direct(x, negative_slope=0.2)
    elif name == "exponential":
        wanted = np.exp(x)
    else:
        wanted = direct(x)
    np.testing.assert_allclose(as_numpy(layer.float_call(x)), as_numpy(wanted), atol=1e-5)


@pytest.mark.parametrize("suffix", [".keras", *slow(".h5")])
def test_a_loaded_user_function_predicts_before_anything_else_ran(suffix, tmp_path):
    """Its table cannot be made inside the graph of `predict`."""
    case = TestUserFunction()
    model, (x,) = case.model(), case.samples()
    wanted = as_numpy(model(x))
    save(model, tmp_path / f"net{suffix}")
    value_rows.cache_clear()
    loaded = keras.models.load_model(tmp_path / f"net{suffix}", compile=False)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), wanted)


def test_a_registered_formula_is_what_the_table_holds():
    """In float64, where the Keras function has float32."""
    register_function("wobble", lambda x: x / (1 + np.exp(-1.7 * x)) + 0.1 * np.sin(3.0 * x))
    try:
        user = user_function("wobble", wobble)
        function = {"function": "user", "user": user}
        case = case_of("Registered", layer=QuantizedActivation, function=function)
        model, (x,) = case.model(), case.samples()
        assert_exact(model, x, graph=False)
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        np.testing.assert_array_equal(as_numpy(clone(x)), as_numpy(model(x)))
        kept = clone.get_layer("layer").function.attrs["user"]
        assert kept.formula is user.formula
    finally:
        unregister_function("wobble")
