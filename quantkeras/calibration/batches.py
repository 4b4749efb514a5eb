"""What a batch of samples must be: one array of numbers per input of the model.

Samples come from users and their files, so everything is checked before a model sees it, and each
message says what was expected and what came.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantkeras.errors import NonFiniteError, QuantizationError

Batch = dict[str, NDArray[Any]]
"""Input name -> (n, *shape), the same n for all inputs."""


class SampleError(QuantizationError):
    """Samples that can't be used for calibration."""


@dataclass(frozen=True)
class InputSpec:
    """An input of the model: its name and unbatched shape (None: any size).

    order: where samples may also come with their axes in another order: axis j of ours, the batch
    included, is their axis order[j]. Samples that fit both ways are taken as in that order.
    """

    name: str
    shape: tuple[int | None, ...]
    order: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return f"input {self.name!r}"

    @property
    def batched(self) -> str:
        """The expected shape for messages, such as (n, 32, 32, 3)."""
        shapes = dict.fromkeys(filter(None, (self._other_shape, self.shape)))
        return " or ".join(_batched(shape) for shape in shapes) or "(n,)"

    @property
    def _other_shape(self) -> tuple[int | None, ...] | None:
        """The unbatched shape of samples in the other order."""
        if self.order is None:
            return None
        batched = (None, *self.shape)
        return tuple(batched[self.order.index(axis)] for axis in range(1, len(self.order)))

    def arranged(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array that fits, with its axes in our order."""
        if self.order is None or not _fits(self._other_shape or (), array.shape):
            return array
        return array.transpose(self.order)

    def accepts(self, shape: Sequence[int | None]) -> bool:
        """Whether an array of this shape, batch axis included, fits."""
        other = self._other_shape
        return _fits(self.shape, shape) or (other is not None and _fits(other, shape))

    def hint(self, shape: Sequence[int | None]) -> str:
        """A remedy for a shape that does not fit, where its cause can be guessed; else nothing."""
        if self.accepts((1, *shape)):
            return " The batch axis is missing: use batches (dataset.batch(32), x[None])."
        if self.accepts((*shape, 1)):
            return " The channel axis is missing: use x[..., None]."
        if len(shape) == 4 and self.accepts((shape[0], shape[2], shape[3], shape[1])):
            return " The channels come last here: use numpy.moveaxis(x, 1, -1)."
        return ""

    def check_shape(self, shape: Sequence[int | None]) -> None:
        """Raises SampleError unless an array of this shape fits."""
        if not self.accepts(shape):
            raise SampleError(
                f"{self}: expected samples of shape {self.batched}, got {shape}.{self.hint(shape)}"
            )

    def check_dtype(self, dtype: np.dtype[Any]) -> None:
        """Raises SampleError unless the elements are real numbers (or booleans)."""
        if dtype.kind not in "fiub" and dtype.name != "bfloat16":
            raise SampleError(
                f"{self}: expected numbers, got elements of dtype {dtype}. "
                "Samples must be one regular array of real numbers."
            )


def _fits(wanted: Sequence[int | None], shape: Sequence[int | None]) -> bool:
    """Whether a batched shape has these sizes behind the batch; None is any size."""
    return len(shape) == len(wanted) + 1 and all(
        size is None or got is None or size == got
        for size, got in zip(wanted, shape[1:], strict=True)
    )


def _batched(shape: Sequence[int | None]) -> str:
    sizes = ["any" if size is None else str(size) for size in shape]
    return f"({', '.join(['n', *sizes])}{',' if not sizes else ''})"


def as_array(spec: InputSpec, value: Any) -> NDArray[Any]:
    """A NumPy array from an array, a tensor of any backend or nested lists."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SampleError(f"{spec}: samples can't be made an array: {error}") from error
    spec.check_dtype(array.dtype)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def check_batch(batch: Mapping[str, Any], inputs: Sequence[InputSpec]) -> Batch:
    """The batch as arrays: shapes and dtypes fit, sizes agree, at least one sample, all finite."""
    checked: Batch = {}
    for spec in inputs:
        array = as_array(spec, batch[spec.name])
        spec.check_shape(array.shape)
        if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
            bad = np.argwhere(~np.isfinite(array))[0]
            raise NonFiniteError(
                f"{spec}: NaN or infinity in the samples, first at index {tuple(bad.tolist())} "
                "of a batch. Remove or repair such samples."
            )
        checked[spec.name] = spec.arranged(array)
    sizes = {name: len(array) for name, array in checked.items()}
    if len(set(sizes.values())) != 1:
        raise SampleError(f"The inputs of a batch have different numbers of samples: {sizes}.")
    if not min(sizes.values()):
        raise SampleError("A batch of samples is empty.")
    return checked


def name_inputs(element: Any, inputs: Sequence[InputSpec]) -> dict[str, Any]:
    """Which value belongs to which input: by name in a mapping, by position in a sequence.

    A lone value is the only input. Nothing is said about what the values are.
    """
    names = [spec.name for spec in inputs]
    if isinstance(element, Mapping):
        missing = [name for name in names if name not in element]
        if missing:
            raise SampleError(
                f"Samples have no entry for input {missing[0]!r}. The inputs are {names}, the "
                f"entries are {[str(key) for key in element]}."
            )
        return {name: element[name] for name in names}
    values = list(element) if isinstance(element, list | tuple) else [element]
    if len(values) != len(names):
        hint = ""
        if len(names) == 1:
            hint = " Give the samples as one array (numpy.stack joins a list), without labels."
        raise SampleError(
            f"The model has {len(names)} inputs, {names}, but the samples have {len(values)} "
            f"arrays.{hint}"
        )
    return dict(zip(names, values, strict=True))


def inputs_of_element(element: Any, inputs: Sequence[InputSpec]) -> dict[str, Any]:
    """The inputs in an element of a dataset or generator: x, (x,), (x, y) or (x, y, weights).

    x is an array, or a list, tuple or mapping of arrays. As everywhere in Keras a tuple starts with
    x; only where x would be a single array for a model of several inputs are its members the
    inputs themselves.
    """
    if not isinstance(element, tuple) or not element:
        return name_inputs(element, inputs)
    first = element[0]
    if len(inputs) == 1 or isinstance(first, list | tuple | Mapping):
        if len(element) > 3:
            raise SampleError(
                f"An element of the samples is a tuple of {len(element)}; expected x, (x, y) or "
                "(x, y, weights)."
            )
        return name_inputs(first, inputs)
    return name_inputs(element, inputs)
