"""What belongs to the elements of a tensor moves with them."""

import warnings

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact

from quantkeras.api import load_model, quantize, save_model
from quantkeras.movement_steps import moved, movement_steps
from quantkeras.numerics.arrays import IntArrays
from quantkeras.numerics.layer import LayerParams, LayerSpec, run_layer
from quantkeras.numerics.windows import Pool, Window
from sanitize.graph import Node

SHAPE = (2, 3, 4)
ARRAYS = {
    "one": np.array([7]),
    "channels": np.array([1, 2, 3, 4]),
    "rows": np.array([5, 6]).reshape(2, 1, 1),
    "all": np.arange(24).reshape(SHAPE),
}
SPECS = [
    LayerSpec("flatten"),
    LayerSpec("reshape", shape=(6, 4)),
    LayerSpec("reshape", shape=(3, 2, 4)),
    LayerSpec("reshape", shape=(4, 6)),
    *(LayerSpec("permute", dims=dims) for dims in [(1, 0, 2), (2, 0, 1), (0, 2, 1)]),
    LayerSpec("slice", slices=((0, 2, 1), (2, None, -2), (1, 4, 2))),
    LayerSpec("slice", slices=((1, 2, 1),) * 3),
    LayerSpec("upsample", size=(2, 3)),
]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_element_keeps_its_number(name, spec):
    array = ARRAYS[name]
    wanted = run_layer(spec, LayerParams(), [np.broadcast_to(array, SHAPE)[None]], IntArrays())[0]
    found = moved(array, spec, SHAPE)
    np.testing.assert_array_equal(np.broadcast_to(found, wanted.shape), wanted)


def test_numbers_per_channel_stay_so():
    channels = ARRAYS["channels"]
    for spec in (LayerSpec("permute", dims=(1, 0, 2)), LayerSpec("upsample", size=(2, 2))):
        assert moved(channels, spec, SHAPE).tolist() == channels.tolist()
    window = Window((2, 2))
    for spec in (
        LayerSpec("pad", pads=((1, 0), (0, 2))),
        LayerSpec("identity", pool=Pool("max", window)),
    ):
        assert moved(channels, spec, SHAPE) is channels
    assert moved(ARRAYS["one"], LayerSpec("flatten"), SHAPE).shape == (1,)


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
