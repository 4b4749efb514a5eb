"""The quantized layers that stand alone: what no layer before them could take in."""

from __future__ import annotations

from typing import Any

import keras

from ..numerics.layer_windows import Pool, Window
from .activation_ranges import PACKAGE
from .hardware_layer import HardwareLayer

register = keras.saving.register_keras_serializable


@register(PACKAGE)
class QuantizedActivation(HardwareLayer, keras.layers.Layer):
    """[Max pool] [ReLU] [average pool] and an element-wise function by table that stand alone.

    See the arguments ``function`` and ``pool`` of HardwareLayer.
    """


@register(PACKAGE)
class QuantizedReLU(HardwareLayer, keras.layers.Layer):
    """A ReLU [average pool] that stands alone (no layer before it that it could join)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "relu": True})


@register(PACKAGE)
class QuantizedGlobalAveragePooling2D(HardwareLayer, keras.layers.GlobalAveragePooling2D):
    """Global average pooling that stands alone: a sum whose 1/n is part of the rescale."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["pool"] = Pool("global_average", keepdims=kwargs.get("keepdims", False))
        super().__init__(*args, **kwargs)


@register(PACKAGE)
class QuantizedAveragePooling2D(HardwareLayer, keras.layers.AveragePooling2D):
    """Average pooling that stands alone: a sum whose 1/n is in the rescale.

    Where padding leaves fewer elements under the window, the sum is multiplied by an integer that
    makes up for them.

    Args:
        pool_size: of the window, a number or (h, w).
        strides: likewise; None: the window's size.
        padding: "valid" or "same".
        **kwargs: those of HardwareLayer and of AveragePooling2D.
    """

    def __init__(
        self, pool_size: Any, strides: Any = None, padding: str = "valid", **kwargs: Any
    ) -> None:
        window = Window(_pair(pool_size), _pair(strides or pool_size), padding)
        kwargs["pool"] = Pool("average", window)
        super().__init__(pool_size, strides=strides, padding=padding, **kwargs)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[1])
