"""BatchNormalization for training on TensorFlow, computed by its fused kernel.

Keras composes the layer of some ten elementwise operations, which on a CPU cost more time than the
convolutions of these small networks. TensorFlow's fused kernel computes the same, forwards and
backwards, in a quarter of that time.
"""

from __future__ import annotations

import keras
from keras import layers


class FusedBatchNormalization(layers.BatchNormalization):
    """The same layer for (n, h, w, c) inputs with gamma and beta; only training differs.

    The moving variance follows the unbiased variance of a batch, which is larger by a factor of
    m / (m - 1) with m = n * h * w.
    """

    def call(
        self, inputs: keras.KerasTensor, training: bool | None = None, mask: object = None
    ) -> keras.KerasTensor:
        if not training:
            return super().call(inputs, training=False)
        import tensorflow as tf

        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, _float32(self.gamma), _float32(self.beta), epsilon=self.epsilon
        )
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return outputs


def fuse_batchnorm(model: keras.Model) -> keras.Model:
    """A new, freshly initialized copy of `model` that trains faster.

    Its weights are those of `model` in number, order and shape. On backends other than TensorFlow
    the model itself comes back.
    """
    if keras.backend.backend() != "tensorflow":
        return model
    return keras.models.clone_model(model, clone_function=_fused)


def _fused(layer: layers.Layer) -> layers.Layer:
    replaceable = (
        type(layer) is layers.BatchNormalization
        and layer.scale
        and layer.center
        and len(layer.input.shape) == 4
    )
    return (FusedBatchNormalization if replaceable else type(layer)).from_config(layer.get_config())


def _float32(variable: keras.Variable) -> keras.KerasTensor:
    """The variable as it is: under a mixed policy Keras would hand it over rounded to bfloat16."""
    return keras.ops.convert_to_tensor(variable.value, dtype="float32")
