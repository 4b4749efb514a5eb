"""Models whose input has the type uint8: rewritten ones take it too."""

import keras
import numpy as np
import pytest
from float_networks import randomized
from keras import layers

from sanitize import sanitize
from sanitize.keras_io import read_keras


@pytest.mark.filterwarnings("ignore:.*HDF5 file.*:UserWarning")
@pytest.mark.parametrize("first", [
    lambda: layers.Rescaling(1 / 255),
    lambda: layers.Lambda(lambda x: keras.ops.cast(x, "float32") / 127.5 - 1.0),
], ids=["rescaling", "cast"])  # fmt: skip
def test_inputs_of_bytes_are_cast_where_their_rescaling_is_folded(first, tmp_path):
    image = keras.Input((8, 8, 3), dtype="uint8")
    x = layers.Conv2D(4, 3, activation="relu")(first()(image))
    model = randomized(keras.Model(image, layers.Dense(2)(layers.Flatten()(x))))
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    sanitized = sanitize(model)
    assert [node.kind for node in read_keras(sanitized)][-4:] == [
        "conv2d",
        "relu",
        "flatten",
        "dense",
    ]
    sanitized.save(tmp_path / "bytes.h5")
    for other in (sanitized, keras.models.load_model(tmp_path / "bytes.h5", compile=False)):
        wanted, found = (np.asarray(m(x, training=False)) for m in (model, other))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
