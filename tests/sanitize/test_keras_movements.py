"""Slices, splits, joins and other movements: read, evaluated, written, saved and loaded."""

import keras
import numpy as np
import pytest
from float_networks import assert_reads, assert_sanitizes, predictions, random_batch, randomized
from keras import layers, ops
from parameters import slow

from sanitize import differences, read_keras, write_keras

SHAPE = (8, 6, 12)
SLICES = {
    "rows": lambda x: x[:, 1:-1],
    "strides": lambda x: x[:, ::2, 1::3],
    "first channels": lambda x: x[..., 0:3],
    "last channels": lambda x: x[..., -3:],
    "reversed": lambda x: x[:, ::-1, :, ::-1],
    "partly reversed": lambda x: x[:, 6:1:-2],
    "one row": lambda x: x[:, 2],
    "from the end": lambda x: x[:, -1, -2],
    "one channel": lambda x: x[..., 5],
    "new axis in front": lambda x: x[:, None],
    "new axis behind": lambda x: x[:, 1:3, ..., None],
    "flip": lambda x: ops.flip(x, axis=(1, 2)),
    "take": lambda x: ops.take(x, [1, 2, 3], axis=-1),
    "take backwards": lambda x: ops.take(x, np.array([5, 3, 1]), axis=3),
    "take one": lambda x: ops.take(x, -2, axis=-1),
    "cropping": lambda x: layers.Cropping2D(((1, 2), (0, 3)))(x),
    "cropping of rows only": lambda x: layers.Cropping2D(((1, 0), (0, 0)))(x),
    "center": lambda x: layers.CenterCrop(5, 3)(x),
}
JOINS = {
    "split": lambda x: ops.concatenate(ops.split(x, 3, axis=-1)[::-1], axis=-1),
    "split at": lambda x: ops.split(x, [1, 4], axis=3),
    "split of rows": lambda x: ops.split(x, 2, axis=1)[1],
    "unstack": lambda x: ops.unstack(x, axis=2)[1],
    "stack": lambda x: ops.stack([x, ops.relu(x)], axis=-1),
    "stack in front": lambda x: ops.stack([x, ops.relu(x)], axis=1),
    "take mixed": lambda x: ops.take(x, [3, 1, 2, 5, 0], axis=-1),
    "take mixed rows": lambda x: ops.take(x, [5, 4, 1], axis=1),
    "take many": lambda x: ops.take(x, np.random.default_rng(0).permutation(12), axis=-1),
    "take many twice": lambda x: ops.take(x, np.arange(24) // 2, axis=-1),
    "roll": lambda x: ops.roll(x, 2, axis=1),
    "tile": lambda x: ops.tile(x, (1, 2, 1, 2)),
    "repeat": lambda x: ops.repeat(x, 2, axis=2),
    "repeat channels": lambda x: ops.repeat(x, 2, axis=-1),
    "channels of zeros": lambda x: ops.pad(x, ((0, 0), (1, 0), (0, 0), (2, 2))),
    "shuffled channels": lambda x: ops.reshape(
        ops.transpose(ops.reshape(x, (-1, 8, 6, 3, 4)), (0, 1, 2, 4, 3)), (-1, 8, 6, 12)
    ),
    "gated halves": lambda x: ops.glu(x),
}
OTHERS = {
    "swapaxes": lambda x: ops.swapaxes(x, 1, -1),
    "moveaxis": lambda x: ops.moveaxis(x, -1, 1),
    "resize": lambda x: ops.image.resize(x, (16, 12), interpolation="nearest"),
    "resize to the same": lambda x: ops.image.resize(x, (8, 6), interpolation="bilinear"),
    "resizing": lambda x: layers.Resizing(16, 18, interpolation="nearest")(x),
    "resizing to the same": lambda x: layers.Resizing(8, 6)(x),
    "mean of channels": lambda x: ops.mean(x, axis=-1, keepdims=True),
    "mean of rows": lambda x: ops.mean(x, axis=1),
    "largest of rows": lambda x: ops.max(x, axis=2, keepdims=True),
    "sum": lambda x: ops.sum(x, axis=(1, 2)),
    "matrix": lambda x: ops.matmul(x, np.arange(24, dtype="float32").reshape(12, 2)),
    "kernel": lambda x: ops.conv(x, np.ones((3, 3, 12, 4), "float32"), 2, padding="same"),
    "depthwise kernel": lambda x: ops.depthwise_conv(x, np.ones((3, 3, 12, 1), "float32")),
    "along a sequence": lambda x: ops.mean(ops.reshape(x, (-1, 48, 12)), axis=1),
}
EVERY = {**SLICES, **JOINS, **OTHERS}


def functional(build, shape=SHAPE):
    x = keras.Input(shape)
    return randomized(keras.Model(x, build(layers.Conv2D(12, 1)(x))))


#: Not more than another form of one of the others; the network of all of them has these, too.
FORMS = (
    "cropping of rows only", "first channels", "from the end", "mean of rows", "new axis behind",
    "one channel", "partly reversed", "repeat channels", "resize to the same", "resizing",
    "resizing to the same", "split at", "split of rows", "stack in front", "strides",
    "take many twice", "take mixed", "take mixed rows", "take one",
)  # fmt: skip


@pytest.mark.parametrize("name", [*(n for n in EVERY if n not in FORMS), *slow(*FORMS)])
def test_read_written_and_sanitized(name):
    model = functional(EVERY[name])
    graph = assert_reads(model)
    if name in SLICES:
        assert {node.kind for node in graph} <= {"input", "conv2d", "slice", "reshape"}
    assert_sanitizes(model)


def test_depth_to_space_and_back():
    if not hasattr(ops, "depth_to_space"):
        pytest.skip("this Keras has no depth_to_space")
    assert_reads(functional(lambda x: ops.depth_to_space(x, 2)))
    assert_reads(functional(lambda x: ops.space_to_depth(x, 2)))


def test_many_pieces_become_one_product():
    graph = read_keras(functional(JOINS["take many"]))
    assert [node.kind for node in graph] == ["input", "conv2d", "conv2d"]
    assert graph.nodes[-1].weights["kernel"].sum() == 12


def test_only_the_outputs_that_are_used_stay():
    graph = read_keras(functional(lambda x: ops.split(x, 4, axis=-1)[2]))
    assert [node.kind for node in graph] == ["input", "conv2d", "slice"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*HDF5 file.*:UserWarning")
@pytest.mark.parametrize("suffix", ["keras", *slow("h5")])
def test_saved_and_loaded(tmp_path, suffix):
    """All of them in one network, written with layers only."""
    model = functional(lambda x: [build(x) for build in EVERY.values()])
    written = write_keras(read_keras(model))
    path = tmp_path / f"model.{suffix}"
    written.save(path)
    loaded = keras.models.load_model(path, compile=False)
    assert differences(read_keras(written), read_keras(loaded)) == []
    x = random_batch(model)
    for wanted, found in zip(predictions(model, x), predictions(loaded, x), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("build, reason", [
    (lambda x: x[1:, :], "indexes the batch axis"),
    (lambda x: ops.image.resize(x, (16, 12)), "it interpolates"),
    (lambda x: ops.image.resize(x, (4, 3), interpolation="nearest"), "it interpolates"),
    (lambda x: layers.CenterCrop(9, 9)(x), "smaller than what it cuts out"),
    (lambda x: layers.RandomCrop(4, 4)(x), "it resizes at inference"),
    (lambda x: ops.max(x, axis=-1), "over the axes"),
    (lambda x: ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=1.0), "not zero"),
    (lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="symmetric"), "'symmetric'"),
    (lambda x: layers.UpSampling2D(2, interpolation="bilinear")(x), "bilinear"),
    (lambda x: layers.Softmax(axis=(1, 2))(x), "several axes"),
])  # fmt: skip
def test_what_is_not_understood_has_a_reason(build, reason):
    node = read_keras(functional(build)).nodes[-1]
    assert node.kind == "opaque"
    assert reason in node.attrs["reason"]
