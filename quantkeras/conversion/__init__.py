"""Lowering of quantized Keras models to integer programs, and the proof that both agree."""

from .convert import convert, convert_parts
from .verify import verify
from .verify_report import FirstDifference, LayerResult, VerifyReport

__all__ = ["FirstDifference", "LayerResult", "VerifyReport", "convert", "convert_parts", "verify"]
