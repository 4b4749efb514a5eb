"""Distillation: the float model teaches the quantized one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import keras
from keras import ops

from ..errors import QuantizationError

Tensor = Any

LOSSES = ("kl", "mse")


@keras.saving.register_keras_serializable("quantkeras")
class Distiller(keras.Model):
    """A model that trains ``student`` to give what ``teacher`` gives, with labels or without.

    The loss is ``(1 - weight) * loss(y, student(x)) + weight * L``; without labels it is L alone.

    Args:
        student: the model that is trained, such as a quantized one.
        teacher: the float model, whose weights stay as they are.
        loss: what L is. ``"kl"``, for classifiers: ``temperature**2`` times the Kullback-Leibler
            divergence between the shares that teacher and student give each class at that
            temperature (Hinton et al. 2015, arXiv:1503.02531; for quantized students Mishra and
            Marr 2018, arXiv:1711.05852). ``"mse"``, for regression: the mean squared difference of
            outputs, in parts of the mean square of the teacher's.
        weight: of L, above 0 and at most 1.
        temperature: above 0; what logits are divided by before the softmax.
        from_logits: outputs are logits; None finds out by the model's last layer.
        **kwargs: those of keras.Model.

    Raises:
        QuantizationError: if the outputs of both differ in number or shape, or for a loss,
            temperature or weight out of range.

    Example:
        Train, and convert the student:

            distiller = Distiller(quantized, model)
            distiller.compile("adam", loss=..., metrics=["accuracy"])  # loss: for labels, or None
            distiller.fit(x, y)  # or fit(x)
            convert(quantized)
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model,
        loss: str = "kl",
        weight: float = 0.5,
        temperature: float = 1.0,
        from_logits: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        if loss not in LOSSES:
            raise QuantizationError(f"distillation loss {loss!r}: must be one of kl, mse")
        if not 0 < weight <= 1:
            raise QuantizationError(f"weight {weight:g}: must be above 0 and at most 1")
        if temperature <= 0:
            raise QuantizationError(f"temperature {temperature:g}: must be positive")
        _check_outputs(student, teacher)
        self.student = student
        self._untracked = SimpleNamespace(teacher=teacher)
        self.distillation_loss = loss
        self.weight = weight
        self.temperature = temperature
        self.from_logits = not ends_in_shares(teacher) if from_logits is None else from_logits

    @property
    def teacher(self) -> keras.Model:
        """The float model. Keras does not see it here: its weights are not to be trained."""
        return self._untracked.teacher

    def call(self, x: Any, training: bool | None = None) -> Any:
        return self.student(x, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """The loss of the class docstring."""
        taught = self.teacher(x, training=False)
        outputs = zip(keras.tree.flatten(taught), keras.tree.flatten(y_pred), strict=True)
        distance = sum(
            self._distance(ops.cast(ops.stop_gradient(t), "float32"), s) for t, s in outputs
        )
        if y is None:
            return distance + sum(self.losses)
        own = super().compute_loss(x, y, y_pred, sample_weight, training)
        return (1 - self.weight) * own + self.weight * distance

    def _distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        if self.distillation_loss == "mse":
            scale = ops.maximum(ops.mean(ops.square(teacher)), keras.config.epsilon())
            return ops.mean(ops.square(teacher - student)) / scale
        taught = self._log_shares(teacher)
        divergence = ops.exp(taught) * (taught - self._log_shares(student))
        return ops.mean(ops.sum(divergence, axis=-1)) * self.temperature**2

    def _log_shares(self, outputs: Tensor) -> Tensor:
        """Logarithms of the shares of each class at the temperature."""
        if not self.from_logits:  # logits up to a constant, which the softmax removes
            outputs = ops.log(ops.maximum(outputs, keras.config.epsilon()))
        return ops.log_softmax(outputs / self.temperature, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            "student": keras.saving.serialize_keras_object(self.student),
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "loss": self.distillation_loss,
            "weight": self.weight,
            "temperature": self.temperature,
            "from_logits": self.from_logits,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Distiller:
        models = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("student", "teacher")
        }
        return cls(**{**config, **models})


def _check_outputs(student: keras.Model, teacher: keras.Model) -> None:
    own, taught = (
        [tuple(tensor.shape[1:]) for tensor in keras.tree.flatten(model.outputs)]
        for model in (student, teacher)
    )
    if own != taught:
        raise QuantizationError(
            f"the student's outputs have the shapes {own}, the teacher's {taught}: they must be "
            "the same. Take the float model that was quantized as the teacher."
        )


def ends_in_shares(model: keras.Model) -> bool:
    """Whether the first output of a model comes from a softmax."""
    operation = keras.tree.flatten(model.outputs)[0]._keras_history.operation
    function = getattr(operation, "activation", None)
    name = getattr(function, "__name__", type(operation).__name__)
    if isinstance(operation, keras.Model):
        return ends_in_shares(operation)
    return str(name).lower() == "softmax"
