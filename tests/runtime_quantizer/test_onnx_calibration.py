"""calibrate_onnx: what is measured, by which method, from what."""

import numpy as np
import onnx
import pytest
from onnx_nets import Reader, conv_net, images, model, node, run, weights
from parameters import slow

from quantkeras.errors import NonFiniteError, QuantizationError
from quantkeras.onnx.runtime_quantizer import calibrate_onnx
from quantkeras.onnx.runtime_quantizer.affine_ranges import affine_range, make_collector
from quantkeras.onnx.runtime_quantizer.number_types import NumberType

U8, S8 = NumberType(8, False), NumberType(8, True)


def test_min_max_is_that_of_the_tensors():
    proto, x = conv_net(), images()
    found = calibrate_onnx(proto, x)
    assert list(found) == ["x", "c1", "r1", "c2", "f", "g", "r2", "m"]
    tensors = dict(zip(["c1", "r1"], run(proto, x, also=["c1", "r1"])[1:], strict=True)) | {"x": x}
    for name, array in tensors.items():
        zero, scale = found[name]
        assert (type(zero), type(scale)) == (np.uint8, np.float32)
        low, high = min(array.min(), 0), max(array.max(), 0)
        assert scale == pytest.approx((high - low) / 255, rel=1e-6)
        assert zero == np.floor(-low / scale + 0.5)


@pytest.mark.parametrize("method", ["minmax", "mse", *slow("percentile:99", "entropy")])
def test_batches_and_readers_make_no_difference(method):
    proto, x = conv_net(), images(12)
    wanted = calibrate_onnx(proto, x, method=method)
    sources = (
        Reader({"x": x[:5]}, {"x": x[5:]}),
        [{"x": x[:1]}, {"x": x[1:]}],
        {"x": x},
        lambda: iter([x[:7], x[7:]]),
        x.astype(np.float64),
    )
    for source in sources:
        assert calibrate_onnx(proto, source, method=method, batch_size=None) == wanted
    assert calibrate_onnx(proto, x, method=method, batch_size=3) == wanted
    assert calibrate_onnx(proto, x, method=method, num_samples=4) != wanted


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_the_augmented_model_is_kept_and_runs(tmp_path, method):
    proto, x = conv_net(), images()
    path = tmp_path / "augmented.onnx"
    calibrate_onnx(proto, x, method=method, augmented_model_path=path)
    found = onnx.load(path)
    added = [value.name for value in found.graph.output][1:]
    assert added[:3] == (["x_ReduceMin", "x_ReduceMax", "c1_ReduceMin"] if method == "minmax"
                         else ["c1", "r1", "c2"])  # fmt: skip
    np.testing.assert_allclose(run(found, x)[0], run(proto, x)[0], rtol=1e-5)
    if method == "minmax":
        assert run(found, x)[1] == x.min()


def test_lists_as_in_the_guide():
    """A white list adds nodes of any type, a black list takes some out."""
    proto, x = conv_net(), images()
    assert list(calibrate_onnx(proto, x, ["MatMul"])) == ["r2", "m"]
    assert list(calibrate_onnx(proto, x, ["MatMul"], nodes_to_quantize=["p"])) == [
        "c2", "p", "r2", "m",
    ]  # fmt: skip
    assert list(calibrate_onnx(proto, x, [], nodes_to_quantize=["c1"])) == ["x", "c1"]
    assert list(calibrate_onnx(proto, x, nodes_to_exclude=["c1", "c2", "g"])) == ["r2", "m"]
    assert calibrate_onnx(proto, x, []) == {}


def test_types_and_symmetry():
    proto, x = conv_net(), images()
    peak = np.abs(x).max()
    for kind, zero, top in (("int8", 0, 127), ("uint8", 128, 127), ("int16", 0, 32767)):
        found = calibrate_onnx(proto, x, activation_type=kind, symmetric=True)["x"]
        assert found.zero_point == zero
        assert found.zero_point.dtype == kind
        assert found.scale == pytest.approx(peak / top, rel=1e-6)
    signed = calibrate_onnx(proto, x, activation_type="int8")["r1"]
    assert (int(signed.zero_point), signed.scale) == (-128, calibrate_onnx(proto, x)["r1"].scale)


def test_a_fixed_batch_is_kept():
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [4, 3]}, {"y": [4, 2]},
                  {"w": weights(3, 2)})  # fmt: skip
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    found = calibrate_onnx(proto, x)
    assert found["x"].scale == pytest.approx(x[:8].max() / 255)  # two samples are left over
    with pytest.raises(QuantizationError, match="is 2, but the model takes batches of 4"):
        calibrate_onnx(proto, x, batch_size=2)


def test_integer_inputs_are_fed_as_such():
    nodes = [
        onnx.helper.make_node("Gather", ["table", "index"], ["e"], "e"),
        node("MatMul", ["e", "w"], ["y"]),
    ]
    constants = {"table": weights(5, 3), "w": weights(3, 2)}
    proto = model(nodes, {"index": ["n"]}, {"y": ["n", 2]}, constants, checked=False)
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.checker.check_model(proto)
    assert list(calibrate_onnx(proto, {"index": np.array([0, 4, 2])})) == ["e", "y"]


def test_what_cannot_be_calibrated():
    proto, x = conv_net(), images()
    with pytest.raises(QuantizationError, match=r"no node 'C1' in 'net'. Did you mean 'c1' or"):
        calibrate_onnx(proto, x, nodes_to_exclude=["C1"])
    with pytest.raises(QuantizationError, match=r"'net' has no operator 'conv'. Did you m"):
        calibrate_onnx(proto, x, ["conv"])
    with pytest.raises(QuantizationError, match="are a list, such as"):
        calibrate_onnx(proto, x, "Conv")
    with pytest.raises(QuantizationError, match=r"no calibration method 'mini'.*mean 'minmax'"):
        calibrate_onnx(proto, x, method="mini")
    with pytest.raises(QuantizationError, match="'percentile:x': could not convert"):
        calibrate_onnx(proto, x, method="percentile:x")
    with pytest.raises(QuantizationError, match="'mse' takes no number"):
        calibrate_onnx(proto, x, method="mse:3")
    with pytest.raises(QuantizationError, match="needs samples"):
        calibrate_onnx(proto, None)
    with pytest.raises(QuantizationError, match="gave no batch; rewind it"):
        calibrate_onnx(proto, Reader())
    with pytest.raises(QuantizationError, match=r"for the inputs \['x'\], not \['z'\]"):
        calibrate_onnx(proto, Reader({"z": x}))
    with pytest.raises(QuantizationError, match=r"expected samples of shape \(n, 3, 8, 8\)"):
        calibrate_onnx(proto, x[:, 1:])
    bad = x.copy()
    bad[0, 0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        calibrate_onnx(proto, Reader({"x": bad}))


def spread(values, method, kind=U8, symmetric=False):
    collector = make_collector(method, "t")
    collector.update(np.asarray(values, np.float32))
    return affine_range(collector, method, kind, symmetric)


def error_of(values, bounds, kind=U8):
    zero, scale = kind.params(*bounds)
    integers = np.clip(np.rint(values / scale) + int(zero), kind.qmin, kind.qmax)
    return float(np.mean(((integers - int(zero)) * scale - values) ** 2))


def test_percentiles_cut_both_ends():
    values = np.random.default_rng(0).normal(2.0, 1.0, 100_000)
    low, high = spread(values, "percentile:98")
    assert low == pytest.approx(np.quantile(values, 0.01), rel=0.02)
    assert high == pytest.approx(np.quantile(values, 0.99), rel=0.02)
    assert spread(values, "percentile:100") == pytest.approx((values.min(), values.max()), rel=1e-5)
    low, high = spread(values, "percentile:98", S8, symmetric=True)
    assert (-low, high) == pytest.approx([np.quantile(np.abs(values), 0.98)] * 2, rel=0.02)


def test_percentiles_of_values_that_are_nearly_all_zero():
    values = np.zeros(10_000)
    values[:3] = [1.0, 2.0, 3.0]
    assert spread(values, "percentile:99.9") == (0.0, 3.0)


@pytest.mark.parametrize("method", ["minmax", "percentile:99.9", "entropy", "mse"])
def test_constant_and_one_sided_values(method):
    assert spread([0.0, 0.0], method) == (0.0, 0.0)
    assert spread([2.5] * 7, method) == pytest.approx((0.0, 2.5))
    assert spread([-2.5] * 7, method) == pytest.approx((-2.5, 0.0))
    low, high = spread(-np.random.default_rng(0).exponential(size=1000), method)
    assert low < 0 == high


@pytest.mark.parametrize("shape", ["shifted", "outliers", *slow("normal", "laplace")])
def test_the_mean_squared_error_is_the_least(shape):
    generator = np.random.default_rng(0)
    values = {
        "normal": generator.normal(size=20_000),
        "laplace": generator.laplace(size=20_000),
        "shifted": generator.normal(3.0, 1.0, 20_000),
        "outliers": np.append(generator.normal(size=20_000), [-300.0, 80.0]),
    }[shape]
    found = error_of(values, spread(values, "mse"))
    low, high = values.min(), max(values.max(), 0)
    shrunk = np.linspace(0.02, 1.0, 50)
    assert found <= 1.02 * min(
        error_of(values, (low * a, high * b)) for a in shrunk for b in shrunk
    )
    assert found <= error_of(values, (low, high))


def test_entropy_gives_up_far_outliers():
    values = np.append(np.random.default_rng(0).normal(size=100_000), [60.0, -45.0])
    for symmetric in (False, True):
        low, high = spread(values, "entropy", S8 if symmetric else U8, symmetric)
        assert 2.0 < -low < 8.0
        assert 2.0 < high < 8.0


def test_entropy_of_few_different_values():
    """Pixels: thresholds with next to nothing within must not win."""
    pixels = np.random.default_rng(0).integers(0, 256, 50_000) / 255.0
    low, high = spread((pixels - 0.485) / 0.229, "entropy")
    assert low < -1.8
    assert high > 1.8


def test_memory_does_not_grow_with_the_samples():
    collector = make_collector("entropy", "t")
    generator = np.random.default_rng(0)
    collector.update(generator.normal(size=1000))
    before = collector.histogram.nbytes
    for _ in range(20):
        collector.update(generator.normal(size=1000) * 100)
    assert collector.histogram.nbytes == before
