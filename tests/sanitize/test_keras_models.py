"""Reading and writing whole models: nesting, sharing, layers that are not understood, saving."""

import keras
import numpy as np
import pytest
from float_networks import (
    assert_reads,
    predictions,
    random_batch,
    randomized,
    sequential,
)
from keras import layers, ops

from sanitize import GraphError, differences
from sanitize.keras_io import read_keras, write_keras


def siamese():
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization()],
        name="inner",
    )
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    head = layers.Dense(5, activation="softmax", name="head")
    outputs = {"far": inner(a) - inner(b), "heads": [head(inner(a)), head(inner(b))], "same": a}
    return randomized(keras.Model({"a": a, "b": b}, outputs))


def test_nested_shared_and_structured():
    model = siamese()
    graph = assert_reads(model)
    assert graph.input_structure == {"a": 0, "b": 1}
    assert graph.output_structure == {"far": 0, "heads": [1, 2], "same": 3}
    sites = graph.sites("inner/conv")
    assert [site.name for site in sites][:2] == ["inner/conv", "inner/conv_1"]
    assert all(site.weights["kernel"] is sites[0].weights["kernel"] for site in sites)
    assert graph["inner/conv"].source == ("inner/conv",)
    assert len(graph.sites("head")) == 2
    written = write_keras(graph)
    assert sum(isinstance(layer, layers.Dense) for layer in written.layers) == 1
    x = random_batch(model)
    outputs = written.predict({"a": x[0], "b": x[1]}, verbose=0)
    assert set(outputs) == {"far", "heads", "same"}


def test_nested_functional_models_with_several_inputs():
    p, q = keras.Input((6,)), keras.Input((6,))
    inner = keras.Model([p, q], [layers.Dense(4)(p) + layers.Dense(4)(q), q], name="pair")
    x, y = keras.Input((6,)), keras.Input((6,))
    u, v = inner([x, y])
    w, _ = inner([v, x])
    model = randomized(keras.Model([x, y], layers.Concatenate()([u, v, w])))
    graph = assert_reads(model)
    assert any(node.name.startswith("pair/") for node in graph)


def test_opaque_layers_with_several_outputs_and_keyword_tensors():
    x = keras.Input((7, 4))
    sequence, h, c = layers.LSTM(3, return_sequences=True, return_state=True)(x)
    attended = layers.MultiHeadAttention(2, 3)(query=sequence, value=sequence)
    model = randomized(keras.Model(x, [attended, layers.Dense(2)(c), h]))
    graph = assert_reads(model, opaque=2)
    assert graph[graph.outputs[1]].inputs[0].endswith(":2")
    assert graph.outputs[2].endswith(":1")


@keras.saving.register_keras_serializable(package="sanitize_tests")
class Doubled(layers.Conv2D):
    """A convolution that does something else in its call."""

    def call(self, inputs):
        return 2.0 * super().call(inputs)


@keras.saving.register_keras_serializable(package="sanitize_tests")
class Renamed(layers.Conv2D):
    """A convolution that is only called differently."""


def test_subclasses_are_read_by_what_their_call_does():
    graph = assert_reads(sequential(Renamed(3, 3), Doubled(2, 3)), round_trip=False)
    assert [node.kind for node in graph][1:] == ["conv2d", "conv2d", "affine", "affine"]


def test_at_inference_training_flags_mean_nothing():
    x = keras.Input((6,))
    for flag in (True, False):
        model = keras.Model(x, layers.Dropout(0.5)(x, training=flag))
        assert assert_reads(model).nodes[-1].kind == "identity"


@keras.saving.register_keras_serializable(package="sanitize_tests")
class Noisy(layers.Layer):
    """Noise by default, as the layers that augment data have it."""

    def call(self, inputs, training=True):
        return inputs + 1.0 if training else inputs * 2.0


def test_layers_of_the_users_own_are_read_at_inference():
    assert assert_reads(sequential(Noisy())).nodes[-1].kind == "affine"


def test_the_written_model_shares_nothing_with_the_original():
    model = sequential(layers.Conv2D(4, 3), layers.LayerNormalization(), layers.Dense(3))
    x = random_batch(model)
    before = predictions(model, x)
    written = write_keras(read_keras(model))
    for weight in written.weights:
        weight.assign(weight * 3.0 + 1.0)
    assert all(np.array_equal(a, b) for a, b in zip(before, predictions(model, x), strict=True))


def test_models_without_a_graph_are_refused():
    class Free(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(GraphError, match="shapes of its inputs are not known"):
        read_keras(Free())
    with pytest.raises(GraphError, match="not built"):
        read_keras(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(TypeError, match=r"a keras\.Model is read here, not a Dense"):
        read_keras(layers.Dense(3))


@pytest.mark.filterwarnings("ignore:.*HDF5 file.*:UserWarning")
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_written_models_save_and_load(tmp_path, suffix):
    def build(x):
        y = ops.sort(layers.Conv2D(4, 3)(x), axis=1)
        y = y[:, 1:7, :, ::2] + y[:, :6, :, 1:3]
        return ops.einsum("bhwc,bhwd->bcd", y, y)

    image = keras.Input((12, 12, 4))
    written = write_keras(read_keras(randomized(keras.Model(image, build(image)))))
    path = tmp_path / f"model.{suffix}"
    written.save(path)
    loaded = keras.models.load_model(path, compile=False)
    assert differences(read_keras(written), read_keras(loaded)) == []
