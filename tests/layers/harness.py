"""One harness for all quantized layers: a case says how to make the layer, the tests are inherited.

A case puts its layer between InputQuantizers and a Dequantizer, with random weights, ranges from
random samples, and inputs whose channels differ in size, so that formats per channel matter.
A model that no test changes is made once per case: see :meth:`LayerHarness.shared`.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from exactness import as_numpy, assert_exact
from keras import ops

from quantkeras.calibration import calibrate
from quantkeras.conversion import convert
from quantkeras.layers import (
    Dequantizer,
    InputQuantizer,
    OutputQuantizer,
    WeightedLayer,
    WeightQuantizer,
)

SAMPLES = 6


class LayerHarness:
    """Inherit as ``TestSomething(LayerHarness)`` and set the attributes.

    variant: a case of a kind that a full case stands for; of its tests the quick suite has the
    exactness alone (conftest.py);
    related: a case whose class shares its code with a full one: the quick suite leaves out other
    widths and ranges that move;
    layer: the layer class; arguments: its own arguments; shapes: of its inputs, unbatched;
    rectified: whether its output is unsigned; signed_inputs: sign of each input's format;
    input_bits: width of each input; widths: (weight bits, output bits, per channel) beside
    (8, 8, True);
    accumulator: no output quantizer; tolerance: of the 16-bit meaning, relative to the maximum;
    eager_training: train without a compiled step, which takes longer to make than to run;
    function: an element-wise function at the end of the layer; table_signed: the sign of what
    enters it.
    """

    variant: ClassVar[bool] = False
    related: ClassVar[bool] = False
    layer: ClassVar[Any] = None
    arguments: ClassVar[dict[str, Any]] = {}
    shapes: ClassVar[tuple[tuple[int, ...], ...]] = ((7, 6, 3),)
    rectified: ClassVar[bool] = False
    signed_inputs: ClassVar[tuple[bool, ...]] = (True, True, True)
    input_bits: ClassVar[tuple[int, ...]] = (8, 8, 8)
    widths: ClassVar[tuple[tuple[int, int, bool], ...]] = ((4, 4, False),)
    accumulator: ClassVar[bool] = False
    tolerance: ClassVar[float] = 2e-3
    eager_training: ClassVar[bool] = True
    function: ClassVar[Mapping[str, Any] | None] = None
    table_signed: ClassVar[bool] = True

    # -- making the case ---------------------------------------------------------------------

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(type(self).__name__.encode()))

    def samples(self, count: int = SAMPLES) -> list[np.ndarray]:
        """Float inputs; channels differ in size by up to 2**3."""
        rng, arrays = self.rng, []
        for i, shape in enumerate(self.shapes):
            x = rng.normal(size=(count, *shape)) * np.exp2(rng.uniform(-2, 1, shape[-1]))
            arrays.append((x if self.signed_inputs[i] else np.abs(x)).astype(np.float32))
        return arrays

    @staticmethod
    def feed(arrays: list[Any]) -> Any:
        return arrays if len(arrays) > 1 else arrays[0]

    def quantized(
        self, weight_bits: int, bits: int, per_channel: bool, mode: str, name: str = "layer"
    ) -> Any:
        """The layer itself."""
        arguments = dict(self.arguments)
        if self.function is not None:
            arguments["function"] = self.function
            arguments["table_quantizer"] = table_quantizer(bits, self.table_signed, mode)
            per_channel = per_channel and self.function["function"] == "prelu"
        if not self.accumulator:
            arguments["output_quantizer"] = OutputQuantizer(
                bits, signed=not self.rectified, per_channel=per_channel, range_mode=mode
            )
        if issubclass(self.layer, WeightedLayer):
            arguments["weight_quantizer"] = WeightQuantizer(weight_bits, range_mode=mode)
        return self.layer(name=name, **arguments)

    def model(
        self,
        weight_bits: int = 8,
        bits: int = 8,
        per_channel: bool = True,
        mode: str = "frozen",
        input_bits: tuple[int, ...] | None = None,
    ) -> Any:
        """Calibrated model around the layer."""
        layer = self.quantized(weight_bits, bits, per_channel, mode)
        inputs, output = self.path(layer, per_channel, input_bits)
        model = keras.Model(self.feed(inputs), output)
        self.randomize(layer)
        return calibrate(model, self.feed(self.samples()))

    def path(
        self, layer: Any, per_channel: bool = True, input_bits: tuple[int, ...] | None = None
    ) -> tuple[list[Any], Any]:
        """Inputs, named after the layer, and what a Dequantizer makes of its output."""
        bits = input_bits or self.input_bits
        inputs, values = [], []
        for i, shape in enumerate(self.shapes):
            inputs.append(keras.Input(shape, name=f"{layer.name}_x{i}"))
            quantizer = InputQuantizer(
                bits=bits[i], signed=self.signed_inputs[i], per_channel=per_channel
            )
            values.append(quantizer(inputs[-1]))
        return inputs, Dequantizer()(layer(self.feed(values)))

    @classmethod
    def shared(cls, mode: str = "frozen") -> Any:
        """The model at 8 bits with that range mode, made once; leave it as it is."""
        return shared_model(cls, mode)

    @pytest.fixture(scope="class", autouse=True)
    @staticmethod
    def forget_shared() -> Iterator[None]:
        yield
        shared_model.cache_clear()

    def randomize(self, layer: Any) -> None:
        rng = self.rng
        if layer.function is not None and layer.function.is_prelu:
            layer.alpha.assign(rng.uniform(-0.5, 1.0, layer.alpha.shape))
        if isinstance(layer, WeightedLayer):
            shape = layer.kernel.shape
            fan_in = np.prod(shape) / layer.core_channels()
            layer.kernel.assign(rng.normal(size=shape) / np.sqrt(fan_in))
            if layer.bias is not None:
                layer.bias.assign(rng.normal(size=layer.bias.shape) * 0.3)
            if layer.has_pad_value:
                layer.pad_value.assign(rng.normal(size=layer.pad_value.shape) * 0.5)

    @staticmethod
    def the_layer(model: Any) -> Any:
        return model.get_layer("layer")

    # -- the tests -----------------------------------------------------------------------------

    def test_exact(self) -> None:
        x = self.feed(self.samples())
        program = assert_exact(self.shared(), x, graph=False)
        assert np.ptp(program.run_integers(x)) > 1, "a trivial case"

    def test_exact_in_graph(self) -> None:
        assert_exact(self.shared(), self.feed(self.samples()), graph=True, eager=False)

    def test_exact_at_other_widths(self) -> None:
        branches = {}
        for weight_bits, bits, per_channel in self.widths:
            name = f"weights{weight_bits}_output{bits}_{'channel' if per_channel else 'tensor'}"
            branches[name] = self, (weight_bits, bits, per_channel)
        model, arrays = side_by_side(branches)
        assert_exact(model, arrays, graph=False)

    def test_extreme_inputs(self) -> None:
        """Inputs far outside the calibrated range saturate, and nothing overflows."""
        rng = self.rng
        arrays = [rng.choice([-1e6, 1e6], x.shape).astype(np.float32) for x in self.samples()]
        assert_exact(self.shared(), self.feed(arrays), graph=False)

    def test_clone_and_config(self) -> None:
        model, x = self.shared(), self.feed(self.samples())
        wanted = as_numpy(model(x))
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        np.testing.assert_array_equal(as_numpy(clone(x)), wanted)
        layer = self.the_layer(model)
        config = layer.get_config()
        assert type(layer).from_config(config).get_config() == config
        rebuilt = keras.Model.from_config(model.get_config())
        rebuilt.set_weights(model.get_weights())
        np.testing.assert_array_equal(as_numpy(rebuilt(x)), wanted)
        np.testing.assert_array_equal(convert(clone).predict(x), wanted)

    @pytest.mark.parametrize("suffix", [".keras", pytest.param(".h5", marks=pytest.mark.slow)])
    def test_saved_and_loaded(self, suffix: str, tmp_path: Any) -> None:
        model, x = self.shared(), self.feed(self.samples())
        wanted = as_numpy(model(x))
        save(model, tmp_path / f"net{suffix}")
        loaded = keras.models.load_model(tmp_path / f"net{suffix}", compile=False)
        np.testing.assert_array_equal(as_numpy(loaded(x)), wanted)
        np.testing.assert_array_equal(convert(loaded).predict(x), wanted)

    def test_gradients(self) -> None:
        """Finite, not all zero, and zero where the input or the output is clipped."""
        model = self.shared("learned")
        arrays = self.samples()
        far = [np.full_like(x, 1e6) for x in arrays]
        for points, dead in ((arrays, False), (far, True)):
            for gradient in input_gradients(model, points):
                assert np.isfinite(gradient).all()
                assert (not gradient.any()) if dead else gradient.any()
        for variable, gradient in weight_gradients(model, arrays).items():
            assert gradient is not None, variable
            assert np.isfinite(gradient).all(), variable

    @pytest.mark.parametrize(
        "mode", [pytest.param("frozen", marks=pytest.mark.slow), "moving", "learned"]
    )
    def test_exact_after_training(self, mode: str) -> None:
        model, arrays = self.model(mode=mode), self.samples()
        x = self.feed(arrays)
        target = as_numpy(model(x)) * 1.3 + 0.1
        before = [as_numpy(w) for w in model.trainable_weights]
        model.compile(keras.optimizers.SGD(0.02), "mse", run_eagerly=self.eager_training)
        for _ in range(1 if self.eager_training else 2):
            if model.trainable_weights:
                model.train_on_batch(x, target)
            else:  # ranges that move need a call in training, and nothing else
                model(x, training=True)
        if issubclass(self.layer, WeightedLayer):
            after = [as_numpy(w) for w in model.trainable_weights]
            assert any((a != b).any() for a, b in zip(before, after, strict=True))
        assert_exact(model, x, graph=False)

    def test_meaning_at_16_bits(self) -> None:
        """With many bits the layer computes what its float meaning says."""
        model = self.model(16, 16, input_bits=(16, 16, 16))
        x = self.feed(self.samples())
        layer = self.the_layer(model)
        wanted = as_numpy(layer.float_call(scaled_inputs(model, self.samples())))
        found = as_numpy(model(x))
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert error < self.tolerance
        assert_exact(model, x, graph=False)


Branch = tuple[LayerHarness, tuple[int, int, bool]]


def side_by_side(branches: Mapping[str, Branch]) -> tuple[Any, list[np.ndarray]]:
    """One calibrated model with a branch per case and widths, and its inputs.

    Making and calibrating a model takes longer than running it. Layers have the names given, so
    that a failure says whose it is.
    """
    inputs: list[Any] = []
    outputs: list[Any] = []
    arrays: list[np.ndarray] = []
    for name, (case, (weight_bits, bits, per_channel)) in branches.items():
        layer = case.quantized(weight_bits, bits, per_channel, "frozen", name)
        entering, leaving = case.path(layer, per_channel)
        case.randomize(layer)
        inputs += entering
        outputs.append(leaving)
        arrays += case.samples()
    return calibrate(keras.Model(inputs, outputs), arrays), arrays


def case_of(name: str, **attributes: Any) -> LayerHarness:
    """A case that is no test class; its random numbers depend on the name."""
    return type(name, (LayerHarness,), attributes)()


@cache
def shared_model(case: type[LayerHarness], mode: str) -> Any:
    return case().model(mode=mode)


def table_quantizer(bits: int, signed: bool, mode: str) -> OutputQuantizer:
    """For what enters a table, as wide as the builder of quantized models makes it."""
    return OutputQuantizer(min(max(bits, 8), 12), signed=signed, per_channel=False, range_mode=mode)


def save(model: Any, path: Any) -> None:
    """Save; Keras warns that .h5 is old, which is no fault of the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.save(path)


def scaled_inputs(model: Any, arrays: list[np.ndarray]) -> Any:
    """Inputs as the layer's float meaning takes them: times the scale of the input quantizers."""
    quantizers = [q for q in model.layers if isinstance(q, InputQuantizer)]
    values = [x * as_numpy(q.scale) for q, x in zip(quantizers, arrays, strict=True)]
    return values if len(values) > 1 else values[0]


def input_gradients(model: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Gradient of the sum of squared outputs to each input, in training (tables have no other)."""
    tf = pytest.importorskip("tensorflow")
    xs = [tf.constant(x) for x in arrays]
    with tf.GradientTape() as tape:
        tape.watch(xs)
        loss = ops.sum(ops.square(model(xs if len(xs) > 1 else xs[0], training=True)))
    return [as_numpy(g) for g in tape.gradient(loss, xs)]


def weight_gradients(model: Any, arrays: list[np.ndarray]) -> dict[str, np.ndarray | None]:
    """Gradient of the mean squared output to each trainable weight, by path."""
    tf = pytest.importorskip("tensorflow")
    with tf.GradientTape() as tape:
        loss = ops.mean(ops.square(model(arrays if len(arrays) > 1 else arrays[0], training=True)))
    variables = model.trainable_weights
    gradients = tape.gradient(loss, [v.value for v in variables])
    return {
        v.path: None if g is None else as_numpy(g)
        for v, g in zip(variables, gradients, strict=True)
    }
