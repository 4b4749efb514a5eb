"""What belongs to the elements of a tensor moves with them."""

import warnings

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact

from quantkeras.api import load_model, quantize, save_model
from quantkeras.numerics.arrays import IntArrays
from quantkeras.numerics.layer import LayerParams, run_layer
from quantkeras.quantization.movement_steps import carry_through, movement_steps
from sanitize.graph import Node
from sanitize.semantics import run_node

SHAPE = (2, 3, 4)


def test_a_slice_that_drops_axes_is_two_steps():
    attrs = {"slices": ((1, 2, 1), (None, None, -1), (0, 3, 2)), "squeeze": (0,)}
    steps = movement_steps(Node("s", "slice", ("x",), attrs, shape=(3, 2)), SHAPE, (3, 2))
    assert [step.spec.kind for step in steps] == ["slice", "reshape"]
    assert [step.shape for step in steps] == [(1, 3, 2), (3, 2)]
    assert steps[0].spec.slices == ((1, 2, 1), (2, None, -1), (0, 3, 2))
    x = np.arange(24).reshape(1, *SHAPE)
    for step in steps:
        x = run_layer(step.spec, LayerParams(), [x], IntArrays())
    np.testing.assert_array_equal(x[0], np.arange(24).reshape(SHAPE)[1, ::-1, 0:3:2])


@pytest.mark.parametrize(
    ("kind", "attrs", "shape"),
    [
        ("flatten", {}, (24,)),
        ("reshape", {}, (6, 4)),
        ("permute", {"dims": (2, 0, 1)}, (4, 2, 3)),
        ("upsample", {"size": (2, 1)}, (4, 3, 4)),
        ("slice", {"slices": ((1, 2, 1), (None, None, -1), (0, 3, 2)), "squeeze": (0,)}, (3, 2)),
        ("identity", {}, SHAPE),
    ],
)
def test_what_belongs_to_elements_moves_as_the_float_node_does(kind, attrs, shape):
    node = Node("moves", kind, ("x",), {"shape": shape, **attrs}, shape=shape)
    for array in (np.arange(4), np.arange(6).reshape(2, 3, 1), np.arange(24).reshape(SHAPE)):
        wanted = run_node(node, [np.broadcast_to(array, SHAPE)[None]], np.int64)[0][0]
        found = carry_through(array, node, SHAPE, shape)
        np.testing.assert_array_equal(np.broadcast_to(found, shape), wanted)


MOVES = {
    "rows": lambda x: x[:, 1:, ::2],
    "channels backwards": lambda x: x[..., ::-1],
    "one row": lambda x: x[:, 2],
    "upsample": keras.layers.UpSampling2D((2, 3)),
    "transpose": keras.layers.Permute((2, 3, 1)),
    "pad": keras.layers.ZeroPadding2D(((1, 0), (0, 2))),
    "crop": keras.layers.Cropping2D(((1, 0), (2, 1))),
}


SAMPLES = np.random.default_rng(0).normal(size=(8, 6, 5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def moving():
    """A branch per movement: a convolution with channels of unlike sizes, and who reads them."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 5, 3))
    outputs = []
    for name, move in MOVES.items():
        name = name.replace(" ", "_")
        conv = keras.layers.Conv2D(4, 3, padding="same", name=f"{name}_conv")
        outputs.append(keras.layers.Dense(3, name=f"{name}_dense")(move(conv(inputs))))
        conv.kernel.assign(conv.kernel * np.float32([0.125, 1.0, 4.0, 0.5]))
    return quantize(keras.Model(inputs, outputs), samples=SAMPLES)


@pytest.mark.slow
def test_formats_per_channel_move_exactly(moving):
    program = assert_exact(moving, SAMPLES)
    for layer in program.layers:
        if layer.name.endswith("_conv"):
            assert np.unique(layer.output_format.frac).size > 1, layer.name


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_formats_per_channel_that_move_are_saved(moving, suffix, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Keras: .h5 is old
        save_model(moving, tmp_path / f"net{suffix}")
    loaded = load_model(tmp_path / f"net{suffix}")
    for name, found, wanted in zip(MOVES, loaded(SAMPLES), moving(SAMPLES), strict=True):
        np.testing.assert_array_equal(as_numpy(found), as_numpy(wanted), err_msg=name)
    assert_exact(loaded, SAMPLES, graph=False)
