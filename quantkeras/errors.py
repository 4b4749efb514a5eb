"""The errors that quantkeras raises on purpose.

All are `QuantizationError`, itself a ValueError: the input, the model or a setting cannot be
served, and the message names the thing, the reason and the remedy. Faults of the program itself
stay what they are (TypeError, AssertionError and the like).
"""


class QuantizationError(ValueError):
    """Base of every error raised on purpose by quantkeras."""


class FormatError(QuantizationError):
    """A number format that cannot be, or that does not fit the tensor it is used on."""


class NonFiniteError(QuantizationError):
    """NaN or infinity where a number is needed (weights, ranges, samples)."""


class IntegerOverflow(QuantizationError):
    """An exact result that does not fit the 64-bit integers that carry it."""


class AccumulatorTooWide(QuantizationError):
    """A layer whose accumulator cannot be proved to stay exact in any float or 64-bit carrier."""


class ModelFileError(QuantizationError):
    """A model file that cannot be read or written: missing, foreign, damaged, or with a version
    or content that this release does not know.
    """


class QuantizationLossWarning(UserWarning):
    """An output of a model that was just quantized has little to do with the float network's.

    A filter that ignores it (``warnings.simplefilter("ignore", QuantizationLossWarning)``) saves
    the time to look for such losses, too.
    """


class FloatTailWarning(UserWarning):
    """A program covers a part of its model only: layers behind it, or before, stay float."""


class InputMismatchWarning(UserWarning):
    """Data or samples that are prepared in another way than what a model or program takes."""


class AccumulatorWarning(UserWarning):
    """A model that was trained needs wider accumulators than it was fitted to."""


class TrainingWarning(UserWarning):
    """What somebody should know who begins to train a quantized model."""
