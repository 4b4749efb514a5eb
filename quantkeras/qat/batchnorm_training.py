"""Batch normalization that stays alive during training, re-estimated and folded at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from ..errors import QuantizationError
from ..layers import (
    LiveBatchNorm,
    WeightedLayer,
    choose_carriers,
    forget_compiled,
    hardware_layers_of,
    layers_of,
)
from ..numerics.layer import LayerParams
from ..ptq.layer_by_layer import BATCH, Step, Walk, core_values, quantized_params
from ..qmodel import QuantizedGraph
from ..terminal.progress import progress_bar


def live_batchnorm(
    model: keras.Model,
    samples: Any,
    num_samples: int | None = 512,
    momentum: float = 0.97,
) -> keras.Model:
    """Make a copy of a quantized model whose convolutions normalize the batches they train on.

    In training each convolution normalizes its product over the batch, with a scale and a shift
    per channel that are trained; in prediction, and for ``convert``, moving statistics are folded
    into its kernel and bias before these are quantized. The copy begins as the function that the
    model is, up to rounding: the statistics are those of ``samples``. It does not matter whether
    the float model still had normalizations.

    Dense layers, shared layers, those without a bias and those of models inside the model stay as
    they are.

    Train the copy, then call :func:`reestimate_batchnorm` and :func:`fold_batchnorm`. With small
    batches (below 16 or so) statistics are too noisy: train folded.

    Args:
        model: a quantized model, which is not changed.
        samples: unlabelled, as for ``calibrate``.
        num_samples: at most that many, None for all.
        momentum: part of the moving statistics that a batch leaves as it was, 0 <= momentum < 1.

    Returns:
        The copy, to be compiled and trained.

    Raises:
        QuantizationError: for a model without quantized layers or with live normalizations, for a
            momentum outside 0..1, for bad samples, and if there is no convolution to normalize.
    """
    if not 0 <= momentum < 1:
        raise QuantizationError(f"momentum {momentum:g}: must be at least 0 and below 1")
    if live_layers(model):
        raise QuantizationError(f"model {model.name!r} has live batch normalizations already")
    chosen = _normalizable(model)
    if not chosen:
        raise QuantizationError(f"model {model.name!r} has no convolution with a bias of its own")
    live = _copy(model, {name: LiveBatchNorm(momentum, name="batchnorm") for name in chosen})
    _measure(live, samples, num_samples, _begin)
    return live


def reestimate_batchnorm(
    model: keras.Model, samples: Any, num_samples: int | None = 2048
) -> keras.Model:
    """Measure the statistics of all live normalizations anew.

    Moving averages lag behind weights that were just trained, the more so where these jump from
    integer to integer (Nagel et al. 2022, arXiv:2203.08086, section 5.2). Layer by layer, on the
    re-estimated quantized layers before: mean and variance over all samples. Does nothing to a
    model without live normalizations.

    Args:
        model: a quantized model, which is changed.
        samples: in a form that ``calibrate`` takes.
        num_samples: at most that many, None for all.

    Returns:
        The model that was given.

    Raises:
        QuantizationError: for a model without quantized layers, and for bad samples.
    """
    if live_layers(model):
        _measure(model, samples, num_samples, _restate)
    return model


def fold_batchnorm(model: keras.Model) -> keras.Model:
    """Make a copy of a quantized model with its live normalizations folded into kernels and biases.

    Args:
        model: a quantized model, which is not changed.

    Returns:
        The copy. Its integers, and what it computes, are the same.

    Raises:
        QuantizationError: for a model without quantized layers.
    """
    folded = _copy(model, {layer.name: None for layer in live_layers(model)})
    copy_folded(model, folded)
    return folded


def live_layers(model: keras.Model) -> list[WeightedLayer]:
    """The layers with a live normalization; QuantizationError if none is quantized."""
    found = [x for x in hardware_layers_of(model) if isinstance(x, WeightedLayer)]
    return [layer for layer in found if layer.batchnorm is not None]


def copy_folded(live: keras.Model, folded: keras.Model) -> None:
    """Give a model the weights of its live copy, normalizations folded in."""
    _copy_weights(live, folded)
    for layer in live_layers(live):
        plain = folded.get_layer(layer.name)
        plain.kernel.assign(_own(layer.kernel_shaped(layer.flat_kernel())))
        plain.bias.assign(_own(layer.folded_bias()))
    choose_carriers(layers_of(folded))
    forget_compiled(folded)


def _normalizable(model: keras.Model) -> list[str]:
    """Names of the model's own convolutions with a bias that are called once."""
    calls = QuantizedGraph.of(model).weighted()
    called = {id(layer) for node, layer in calls if node.share is None}
    return [x.name for x in model.layers if id(x) in called and _is_convolution(x)]


def _is_convolution(layer: Any) -> bool:
    if not isinstance(layer, WeightedLayer) or layer.bias is None:
        return False
    return layer.core_spec().kind != "dense"


def _copy(model: keras.Model, batchnorms: Mapping[str, LiveBatchNorm | None]) -> keras.Model:
    """A copy with other normalizations in the layers of these names."""

    def copied(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in batchnorms:
            config["batchnorm"] = batchnorms[layer.name]
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=copied)
    _copy_weights(model, copy)
    return copy


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """All but the normalizations, which one of them may lack."""
    for layer in target.layers:
        pairs = zip(_plain(source.get_layer(layer.name)), _plain(layer), strict=True)
        for given, variable in pairs:
            variable.assign(_own(given))


def _own(values: Any) -> NDArray[Any]:
    """A copy: variables of JAX would share one array, which ``fit`` gives up."""
    return np.array(ops.convert_to_numpy(values))


def _plain(layer: Any) -> list[Any]:
    """The variables of a layer that do not belong to a live normalization."""
    batchnorm = getattr(layer, "batchnorm", None)
    other = () if batchnorm is None else batchnorm.variables
    return [v for v in layer.variables if not any(v is w for w in other)]


Statistics = tuple[NDArray[np.float32], NDArray[np.float32]]


def _measure(
    model: keras.Model,
    samples: Any,
    num_samples: int | None,
    use: Callable[[Step, LiveBatchNorm], None],
) -> None:
    """Call ``use`` for each live layer, on the layers before as they have become."""
    count = len(live_layers(model))
    with (
        Walk(model, samples, num_samples) as walk,
        progress_bar(count, "statistics of batch normalizations") as advance,
    ):
        for step in walk:
            if step.layer.batchnorm is not None:
                use(step, step.layer.batchnorm)
                advance(1)
    choose_carriers(layers_of(model))
    forget_compiled(model)


def _statistics(step: Step, params: LayerParams) -> Statistics:
    """Mean and variance (c,) of the product of a folded kernel, the ratio taken out."""
    params.bias = None
    total, squares, count = np.zeros(1), np.zeros(1), 0
    for start in range(0, len(step.inputs), BATCH):
        product = core_values(step.layer, step.inputs[start : start + BATCH], params)
        rows = ops.convert_to_numpy(product).astype(np.float64)
        rows = rows.reshape(-1, rows.shape[-1])
        total, squares = total + rows.sum(axis=0), squares + (rows**2).sum(axis=0)
        count += len(rows)
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    ratio = np.asarray(ops.convert_to_numpy(step.layer.batchnorm.ratio()), np.float64)
    ratio = np.where(ratio == 0, 1, ratio)
    return (mean / ratio).astype(np.float32), (variance / ratio**2).astype(np.float32)


def _begin(step: Step, batchnorm: LiveBatchNorm) -> None:
    """Statistics, and a gamma and a bias with which they leave the layer as it is."""
    mean, variance = _statistics(step, quantized_params(step.layer))
    batchnorm.start(mean, variance)
    step.layer.bias.assign_add(mean)


def _restate(step: Step, batchnorm: LiveBatchNorm) -> None:
    """First for the float kernel: a quantized one whose ratio is far off may be all zeros."""
    batchnorm.restate(*_statistics(step, step.layer.float_params()))
    batchnorm.restate(*_statistics(step, quantized_params(step.layer)))
