"""Give an untrained network the BatchNormalization statistics that a trained one would have.

A fresh BatchNormalization has mean 0, variance 1, gamma 1, beta 0: folding it or getting it wrong
makes no difference. Tests want it to.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
from keras import layers


def randomize_batchnorm(
    model: keras.Model, seed: int = 0, inputs: np.ndarray | list[np.ndarray] | None = None
) -> None:
    """Draw gamma, beta, moving mean and variance of every BatchNormalization, nested ones too.

    gamma is in 0.5..1.5 and beta normal with deviation 0.3. Without `inputs` the mean is normal
    with deviation 0.3 and the variance in 0.5..2. With `inputs` (a batch that the model takes)
    mean and variance are those that the layer really sees, off by up to 10 %, so that activations
    neither die nor explode in a deep network. The same seed gives the same numbers.
    """
    rng = np.random.default_rng(seed)
    found = [x for x in _layers(model) if isinstance(x, layers.BatchNormalization)]
    for layer in found:
        count = layer.moving_mean.shape
        if layer.scale:
            layer.gamma.assign(rng.uniform(0.5, 1.5, count))
        if layer.center:
            layer.beta.assign(rng.normal(0.0, 0.3, count))
        layer.moving_mean.assign(rng.normal(0.0, 0.3, count))
        layer.moving_variance.assign(rng.uniform(0.5, 2.0, count))
    if inputs is None:
        return
    _observe(model, found, inputs)
    for layer in found:
        variance = keras.ops.convert_to_numpy(layer.moving_variance)
        mean = keras.ops.convert_to_numpy(layer.moving_mean)
        off_by = rng.uniform(-0.1, 0.1, (2, *mean.shape))
        layer.moving_mean.assign(mean + off_by[0] * np.sqrt(variance))
        layer.moving_variance.assign(variance * (1 + off_by[1]))


def _observe(
    model: keras.Model, found: list[layers.Layer], inputs: np.ndarray | list[np.ndarray]
) -> None:
    """One pass in training mode with momentum 0 leaves each layer the moments of this batch."""
    momenta = [layer.momentum for layer in found]
    dropouts = [x for x in _layers(model) if isinstance(x, layers.Dropout)]
    rates = [layer.rate for layer in dropouts]
    for layer in found:
        layer.momentum = 0.0
    for layer in dropouts:
        layer.rate = 0.0
    try:
        model(inputs, training=True)
    finally:
        for layer, momentum in zip(found, momenta, strict=True):
            layer.momentum = momentum
        for layer, rate in zip(dropouts, rates, strict=True):
            layer.rate = rate


def _layers(model: keras.Model) -> Iterator[layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def patch_images(count: int, size: int) -> np.ndarray:
    """uint8 pictures (count, size, size, 3): patches of all sizes.

    Unlike noise, they remain apart in a deep random network. Statistics of pictures that do not
    would magnify every rounding.
    """
    rng = np.random.default_rng(0)
    total = np.zeros((count, size, size, 3))
    for cells in (1, 2, 4, 8, 16):
        patches = rng.uniform(-1, 1, (count, cells, cells, 3))
        places = np.arange(size) * cells // size
        total += patches[:, places][:, :, places]
    return np.clip(128 + 40 * total, 0, 255).astype(np.uint8)
