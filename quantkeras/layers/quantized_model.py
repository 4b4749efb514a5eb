"""The class of quantized models: a functional model that looks at what it is fed.

Data that are prepared in another way than the calibration samples were are legal numbers, and what
comes out of them is worthless: the model tells it, as a program does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
import numpy as np

from ..errors import InputMismatchWarning, QuantizationError
from ..runtime import ProgramInput
from ..runtime.fed import check_fed
from .activation_ranges import PACKAGE
from .fed_data import Sizes, first_batch, is_read_once, named_arrays, other_sizes, passed_by
from .program_input import program_input
from .quantizers import Dequantizer, InputQuantizer
from .resizing import resized


def _functional_class() -> Any:
    tensor = keras.Input((1,))
    return type(keras.Model(tensor, tensor))


_Functional: Any = _functional_class()


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedModel(_Functional):
    """A functional model of quantized layers. It computes what any keras.Model of them does.

    ``predict``, ``evaluate`` and ``fit`` warn (InputMismatchWarning) once of each input whose data
    were prepared in another way than the samples: a good deal of them far beyond the range, or all
    within a few of its steps. Calls of the model with arrays, and the methods that take one batch,
    look at the first of these only.

    ``predict`` takes arrays of other sizes than the model was quantized for, too, where its layers
    do, with a warning; all else raises QuantizationError for them. See :func:`resized`.
    """

    _told: frozenset[str] = frozenset()
    """Inputs that were warned of."""
    _watches = True
    _told_of_sizes = False
    _watches_batches = True
    """Single batches in a loop would notice what looking at each of them takes."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args:
            self._check_sizes(args[0])
            self._look_at_batch(args[0])
        return super().__call__(*args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        sizes = other_sizes(x, self.input, self.inputs)
        if not sizes:
            return self._run_on(x, super().predict, self._looks_while_passing(x), *args, **kwargs)
        self._tell_of_sizes(sizes)
        made = resized(self, sizes)
        made._told = self._told
        found = made.predict(x, *args, **kwargs)
        self._told = made._told
        return found

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        # While it is trained, Keras keeps the validation data as it has made them ready.
        kept = kwargs.get("_use_cached_eval_dataset", False)
        passing = not kept and self._looks_while_passing(x)
        return self._run_on(x, super().evaluate, passing, *args, **kwargs)

    def _run_on(
        self, x: Any, method: Callable[..., Any], passing: bool, *args: Any, **kwargs: Any
    ) -> Any:
        """What a method gives for x, which is looked at; passing: while the method reads it."""
        if not passing:
            self._look_at(first_batch(x), stacklevel=5)
            return method(x, *args, **kwargs)
        seen: list[Any] = []
        found = method(passed_by(x, seen.append), *args, **kwargs)
        self._look_at(seen[0] if seen else None, stacklevel=5)
        return found

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        self._look_at(first_batch(x))
        return super().fit(x, *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        self._look_at_batch(x)
        return super().predict_on_batch(x)

    def test_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        self._look_at_batch(x)
        return super().test_on_batch(x, *args, **kwargs)

    def train_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        self._look_at_batch(x)
        return super().train_on_batch(x, *args, **kwargs)

    def _looks_while_passing(self, x: Any) -> bool:
        # Replicas of a strategy read a dataset in a way of their own.
        strategy = getattr(self, "distribute_strategy", None)
        return is_read_once(x) and getattr(strategy, "num_replicas_in_sync", 1) == 1

    def _check_sizes(self, x: Any) -> None:
        sizes = other_sizes(x, self.input, self.inputs)
        if sizes:
            raise QuantizationError(
                f"model {self.name!r} was quantized for {_listed(self._own_sizes(sizes))}, not for "
                f"{_listed(sizes)}: resized(model, shapes) makes one for these"
            )

    def _tell_of_sizes(self, sizes: Sizes) -> None:
        if not self._told_of_sizes:
            self._told_of_sizes = True
            warnings.warn(
                f"model {self.name!r} was quantized for {_listed(self._own_sizes(sizes))}, and is "
                f"made anew for {_listed(sizes)} each time that such data come. Make it once, with "
                "resized(model, shapes), for more of them.",
                InputMismatchWarning,
                stacklevel=3,
            )

    def _own_sizes(self, names: Iterable[str]) -> Sizes:
        return {x.name: tuple(x.shape[1:]) for x in self.inputs if x.name in names}

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Within it the model is fed in silence."""
        self._watches = False
        try:
            yield
        finally:
            self._watches = True

    def _look_at_batch(self, x: Any) -> None:
        if self._watches_batches and self._look_at(x, stacklevel=5):
            self._watches_batches = False

    def _look_at(self, x: Any, stacklevel: int = 4) -> bool:
        """Warn of x, if it has arrays and these look wrong; returns whether it has."""
        arrays = named_arrays(x, self.input, self.inputs) if self._watches else {}
        entries = dict(self._fed_inputs()) if arrays else {}
        told = set(self._told)
        fed = {entry.name: arrays[i] for i, entry in entries.items() if i in arrays}
        with np.errstate(over="ignore", invalid="ignore"):
            check_fed(
                [entry for entry in entries.values() if entry.name in fed],
                fed,
                told,
                stacklevel=stacklevel,
                refuse=False,
            )
        if told != self._told:
            self._told = frozenset(told)
        return bool(arrays)

    def _fed_inputs(self) -> Iterator[tuple[int, ProgramInput]]:
        """Inputs whose range is known, by position: what was quantized with random samples waits
        for others, and ranges that move take what comes.
        """
        positions = {id(tensor): position for position, tensor in enumerate(self.inputs)}
        waits = any(
            layer.provenance.get("provisional")
            for layer in self.layers
            if isinstance(layer, Dequantizer)
        )
        for layer in self.layers:
            if isinstance(layer, InputQuantizer) and id(layer.input) in positions:
                known = layer.integer_input or (layer.range_mode == "frozen" and not waits)
                if known and layer.input.name not in self._told:
                    shape = tuple(layer.input.shape[1:])
                    yield positions[id(layer.input)], program_input(layer.input.name, shape, layer)


def _listed(sizes: Sizes) -> str:
    return ", ".join(f"{name!r} of {shape}" for name, shape in sizes.items())


def unwatched(model: keras.Model) -> Any:
    """A context in which any model is fed in silence.

    Args:
        model: the model.

    Returns:
        The context manager.
    """
    return model.unwatched() if isinstance(model, QuantizedModel) else nullcontext()


# Files of HDF5 name the class of a model without its package.
keras.saving.get_custom_objects()[QuantizedModel.__name__] = QuantizedModel


def as_quantized_model(model: keras.Model) -> keras.Model:
    """Let a functional model of quantized layers be a QuantizedModel; others stay what they are.

    Args:
        model: the model, which is changed.

    Returns:
        The model that was given.
    """
    if type(model) is _Functional and any(isinstance(x, InputQuantizer) for x in model.layers):
        model.__class__ = QuantizedModel
    return model
