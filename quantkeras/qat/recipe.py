"""A way to retrain that works well for most networks: the pieces of this package together."""

from __future__ import annotations

from typing import Any

import keras

from ..errors import QuantizationError
from .batchnorm_training import copy_folded, live_batchnorm, reestimate_batchnorm
from .distillation import Distiller, ends_in_shares
from .oscillation import DampenOscillations
from .ranges import FreezeRanges, set_ranges

BATCHNORMS = ("folded", "live")


def retrain(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    teacher: keras.Model | None = None,
    loss: Any = None,
    epochs: int = 3,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    steps_per_epoch: int | None = None,
    dampening: float | None = None,
    ranges: str = "frozen",
    batchnorm: str = "folded",
    **fit_options: Any,
) -> keras.callbacks.History:
    """Train a quantized classifier in place with plain `fit`.

    Args:
        model: the quantized model, which is changed.
        x: as for `fit`: arrays, or a dataset of (inputs, labels).
        y: labels of arrays; without labels, a teacher is needed.
        teacher: the float model; its outputs count for half of the loss, and for all of it without
            labels.
        loss: for labels; None is the cross-entropy of class numbers.
        epochs: passes over x.
        batch_size: of arrays; datasets have their own.
        learning_rate: relative: by so much of its size a kernel changes in a step (LAMB, You et al.
            2019, arXiv:1904.00962), since kernels that batch normalizations were folded into differ
            by orders of magnitude. It falls to 0 along half a cosine.
        steps_per_epoch: needed for datasets of unknown length.
        dampening: strength of DampenOscillations in the last third of the epochs, None for none.
        ranges: a mode of :func:`set_ranges`; other than "frozen", which keeps them as calibrated,
            until the last third of the epochs.
        batchnorm: "folded" trains the integers' own kernels; "live" normalizes batches while
            training (see :func:`live_batchnorm`), re-estimates the statistics on x and folds them
            in the end.
        **fit_options: the rest goes to `fit`.

    Returns:
        The history of `fit`.

    Raises:
        QuantizationError: for a model without quantized layers, if there is neither a label nor a
            teacher, and for unknown ``ranges`` and ``batchnorm``.
    """
    if batchnorm not in BATCHNORMS:
        raise QuantizationError(f"batchnorm {batchnorm!r}: must be one of {', '.join(BATCHNORMS)}")
    arrays = y is not None or not _is_dataset(x)
    labelled = y is not None if arrays else _has_labels(x)
    if not labelled and teacher is None:
        raise QuantizationError("retrain needs labels, or the float model as a teacher")
    steps = steps_per_epoch or _steps(x, batch_size if arrays else None)
    set_ranges(model, ranges)
    live = batchnorm == "live"
    student = live_batchnorm(model, x) if live else model
    learner = student
    if teacher is not None:
        learner = Distiller(student, teacher, weight=0.5 if labelled else 1.0)
    if labelled and loss is None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not ends_in_shares(model))
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps * epochs)
    learner.compile(keras.optimizers.Lamb(rate), loss if labelled else None)
    callbacks = [*fit_options.pop("callbacks", ())]
    last_third = epochs - epochs // 3
    if ranges != "frozen":
        callbacks.append(FreezeRanges(last_third))
    if dampening is not None:
        callbacks.append(DampenOscillations(dampening, max(1, epochs // 3), last_third))
    if arrays:
        fit_options["batch_size"] = batch_size
    else:
        fit_options = {"shuffle": False, "steps_per_epoch": steps_per_epoch, **fit_options}
    history = learner.fit(x, y, epochs=epochs, callbacks=callbacks, **fit_options)
    if live:
        copy_folded(reestimate_batchnorm(student, x), model)
    if ranges != "frozen":
        set_ranges(model, "frozen")
    return history


def _is_dataset(x: Any) -> bool:
    return hasattr(x, "element_spec") or isinstance(x, keras.utils.PyDataset)


def _has_labels(dataset: Any) -> bool:
    batch = dataset[0] if isinstance(dataset, keras.utils.PyDataset) else dataset.element_spec
    return isinstance(batch, tuple) and len(batch) > 1


def _steps(x: Any, batch_size: int | None) -> int:
    """Steps of an epoch."""
    if batch_size is None:
        cardinality = getattr(x, "cardinality", None)
        steps = int(cardinality()) if cardinality is not None else len(x)
        if steps <= 0:
            raise QuantizationError("the dataset does not know its length: say steps_per_epoch")
        return steps
    return -(-len(keras.tree.flatten(x)[0]) // batch_size)
