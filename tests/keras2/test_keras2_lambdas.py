"""Lambda layers of Keras 2 files: read when trusted, and treated as the layers that they are."""

import base64
import json
import marshal

import h5py
import keras
import numpy as np
import pytest

from quantkeras.files.model_files import ModelFileError, load_model
from sanitize import read_keras

X = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
tf = pytest.importorskip("tensorflow") if keras.backend.backend() == "tensorflow" else None


def code_of(function):
    return base64.b64encode(marshal.dumps(function.__code__)).decode()


def saved(folder, dumped, kind="lambda", **config):
    """A file of Keras 2 with one Lambda layer, as Keras 2 wrote it."""
    settings = {"name": "own", "function": dumped, "function_type": kind, "arguments": {}}
    layers = [
        {
            "class_name": "InputLayer",
            "config": {"batch_input_shape": [None, 4, 6, 3], "name": "image"},
        },
        {"class_name": "Lambda", "config": {**settings, **config}},
    ]
    network = {"class_name": "Sequential", "config": {"name": "net", "layers": layers}}
    with h5py.File(folder / "net.h5", "w") as file:
        file.attrs.update(model_config=json.dumps(network), keras_version="2.15.0")
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [b"image", b"own"]
        for layer in ("image", "own"):
            weights.create_group(layer).attrs["weight_names"] = []
    return folder / "net.h5"


@pytest.mark.skipif(tf is None, reason="written with TensorFlow functions")
@pytest.mark.parametrize("function, kinds", [
    (lambda x: tf.nn.relu6(x) / 3.0, ["relu", "affine"]),
    (lambda x: tf.transpose(x, [0, 2, 1, 3]), ["permute"]),
    (lambda x: tf.sin(x) * x, ["activation"]),
    (lambda x: tf.reduce_mean(x, axis=[1, 2]), ["global_avg_pool"]),
    (lambda x: tf.cumsum(x, axis=1), ["opaque"]),
])  # fmt: skip
def test_code_with_tensorflow_at_hand(function, kinds, tmp_path):
    model = load_model(saved(tmp_path, [code_of(function), None, None]), safe_mode=False)
    np.testing.assert_allclose(np.asarray(model(X)), np.asarray(function(X)), rtol=1e-5, atol=1e-6)
    found = [node.kind for node in read_keras(model)][1:]
    assert found in (kinds, ["activation"])


def test_defaults_closures_and_arguments(tmp_path):
    def outer(b):
        return lambda x, a=2.0, c=0.0: a * x + b + c

    dumped = [code_of(outer(1.0)), [2.0, 0.0], [5.0]]
    path = saved(tmp_path, dumped, arguments={"c": 0.5})
    np.testing.assert_allclose(np.asarray(load_model(path, safe_mode=False)(X)), 2 * X + 5.5)
    late = {"class_name": "__lambda__", "config": {"code": dumped[0], "defaults": [3.0, 0.0]}}
    late["config"]["closure"] = [1.0]
    path = saved(tmp_path, late)
    np.testing.assert_allclose(
        np.asarray(load_model(path, safe_mode=False)(X)), 3 * X + 1, rtol=1e-6
    )


def test_functions_by_name_need_no_trust(tmp_path):
    path = saved(tmp_path, "relu", "function")
    np.testing.assert_array_equal(np.asarray(load_model(path)(X)), np.maximum(X, 0))


@pytest.mark.parametrize("code", ["not base 64", base64.b64encode(b"\x00\x01junk").decode()])
def test_byte_code_of_another_python_is_said_so(code, tmp_path):
    path = saved(tmp_path, [code, None, None])
    with pytest.raises(ModelFileError, match="another version of Python.*write this layer as a"):
        load_model(path, safe_mode=False)
