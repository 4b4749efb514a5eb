"""Small networks to try quantkeras on: architectures, trained weights and images, all included.

Each network is one module with `build()` (architecture, random weights) and, where weights are
committed, `load()` and a training entry `python -m model_zoo.NAME train --data DIR`.

    from model_zoo import cifar10_demo, resnet8
    model = resnet8.load()
    (x_train, y_train), (x_test, y_test) = cifar10_demo()

Importing this package is free: NumPy comes with the images, Keras with the first network.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_zoo.demo_data import CIFAR10_CLASSES, cifar10_demo

TRAINED = ("resnet8", "mobilenet_tiny", "shufflenet", "mlp")
ARCHITECTURES = (
    *TRAINED,
    "vww_mobilenet",
    "wakeword",
    "ds_cnn",
    "autoencoder",
)

__all__ = ["ARCHITECTURES", "CIFAR10_CLASSES", "TRAINED", "cifar10_demo"]


def __getattr__(name: str) -> object:
    """Import the image loader when first asked for, so that `python -m` runs each module once."""
    if name in ("CIFAR10_CLASSES", "cifar10_demo"):
        from model_zoo import demo_data

        return getattr(demo_data, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
