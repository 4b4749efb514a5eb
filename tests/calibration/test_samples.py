"""Samples: every form of them gives the same batches, and every mistake a message."""

import io
import zipfile

import numpy as np
import pytest

from quantkeras.calibration.samples import SampleError, iterate_samples
from quantkeras.errors import NonFiniteError, QuantizationError

IMAGE = [("image", (4, 4, 3))]
TWO = [("left", (3,)), ("right", (2, 2))]


def images(count, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3)).astype(dtype)


def joined(stream):
    """All batches of a stream one after the other."""
    batches = list(stream)
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


# --- forms of samples ----------------------------------------------------------------------------


def test_array():
    x = images(70)
    stream = iterate_samples(x, IMAGE)
    assert stream.dtypes == {"image": np.dtype(np.uint8)} and stream.total == 3
    assert [len(batch["image"]) for batch in stream] == [32, 32, 6]
    assert np.array_equal(joined(stream)["image"], x)


def test_num_samples_are_spread_evenly():
    x = np.arange(1000, dtype=np.float32)[:, None]
    taken = joined(iterate_samples(x, [("x", (1,))], num_samples=10))["x"][:, 0]
    assert np.array_equal(taken, np.arange(0, 1000, 100))


@pytest.mark.parametrize("form", ["list", "tuple", "dict", "npz", "npz_unnamed"])
def test_several_inputs(form, tmp_path):
    left, right = np.ones((5, 3), np.float32), np.arange(20.0).reshape(5, 2, 2)
    samples = {
        "list": [left, right],
        "tuple": (left, right),
        "dict": {"right": right, "left": left},
        "npz": tmp_path / "named.npz",
        "npz_unnamed": str(tmp_path / "unnamed.npz"),
    }[form]
    np.savez(tmp_path / "named.npz", right=right, left=left, labels=np.arange(5))
    np.savez(tmp_path / "unnamed.npz", left, right)
    stream = iterate_samples(samples, TWO, batch_size=2)
    assert stream.dtypes == {"left": np.dtype(np.float32), "right": np.dtype(np.float64)}
    result = joined(stream)
    assert np.array_equal(result["left"], left) and np.array_equal(result["right"], right)


def test_nested_lists_and_flexible_shapes():
    result = joined(iterate_samples([[1.0, 2.0], [3.0, 4.0]], [("x", (None,))]))
    assert result["x"].shape == (2, 2)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("num_samples", [None, 7, 30])
def test_npz_equals_the_array(save, num_samples, tmp_path):
    """Streamed rows are those of the array in memory, labels are left alone."""
    x = images(100, np.float32)
    save(tmp_path / "s.npz", x=x, y=np.arange(100), names=np.array(["a", "b"]))
    result = joined(iterate_samples(tmp_path / "s.npz", IMAGE, num_samples, batch_size=8))
    assert np.array_equal(result["image"], joined(iterate_samples(x, IMAGE, num_samples))["image"])


def test_npz_parts_follow_one_another(tmp_path):
    a, b = images(10), images(7, seed=1)
    np.savez(tmp_path / "parts.npz", part_a=a, part_b=b)
    stream = iterate_samples(tmp_path / "parts.npz", IMAGE, batch_size=8, epochs=2)
    assert stream.total == 6
    result = joined(stream)["image"]
    assert np.array_equal(result, np.concatenate([a, b, a, b]))


def test_npz_training_images_only(tmp_path):
    a = images(10)
    np.savez(tmp_path / "set.npz", x_train=a, x_test=images(7, seed=1), y_train=np.arange(10))
    assert np.array_equal(joined(iterate_samples(tmp_path / "set.npz", IMAGE))["image"], a)


def test_npz_in_fortran_order_and_npy(tmp_path):
    x = images(9)
    np.savez(tmp_path / "f.npz", x=np.asfortranarray(x))
    np.save(tmp_path / "x.npy", x)
    for name in ("f.npz", "x.npy"):
        assert np.array_equal(joined(iterate_samples(tmp_path / name, IMAGE))["image"], x)


def batches_of(x, labels=True, size=8):
    for start in range(0, len(x), size):
        part = x[start : start + size]
        yield (part, np.zeros(len(part))) if labels else part


class Batches:
    """An iterable that can be read again."""

    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return batches_of(self.x)


def test_generators_functions_and_iterables():
    x = images(20)
    one_shot = iterate_samples(batches_of(x, labels=False), IMAGE, num_samples=20)
    assert one_shot.total is None and np.array_equal(joined(one_shot)["image"], x)
    for samples in (lambda: batches_of(x), Batches(x)):
        stream = iterate_samples(samples, IMAGE, num_samples=12, epochs=2)
        assert [len(batch["image"]) for batch in stream] == [8, 4, 8, 4]
        assert np.array_equal(joined(stream)["image"], np.concatenate([x[:12], x[:12]]))


def test_elements_of_several_inputs():
    left, right, label = np.ones((4, 3)), np.ones((4, 2, 2)), np.zeros(4)
    for element in (
        [left, right],
        (left, right),
        ([left, right], label),
        ((left, right), label),
        {"left": left, "right": right},
        ({"left": left, "right": right}, label, label),
    ):
        result = joined(iterate_samples(iter([element]), TWO, num_samples=4))
        assert result["left"].shape == (4, 3) and result["right"].shape == (4, 2, 2)


def test_large_batches_are_split_on_request():
    stream = iterate_samples(lambda: batches_of(images(20), size=10), IMAGE, 17, batch_size=4)
    assert [len(batch["image"]) for batch in stream] == [4, 4, 2, 4, 3]


def test_bfloat16_becomes_float32():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = images(3).astype(ml_dtypes.bfloat16)
    assert iterate_samples(x, IMAGE).dtypes["image"] == np.float32


def test_tf_dataset():
    tf = pytest.importorskip("tensorflow")
    x = images(20)
    dataset = tf.data.Dataset.from_tensor_slices((x, np.zeros(20))).batch(8)
    stream = iterate_samples(dataset, IMAGE, epochs=2)
    assert stream.total == 6 and stream.dtypes["image"] == np.uint8
    assert np.array_equal(joined(stream)["image"], np.concatenate([x, x]))
    endless = iterate_samples(dataset.repeat(), IMAGE, num_samples=25)
    assert endless.total == 4 and len(joined(endless)["image"]) == 25
    with pytest.raises(QuantizationError, match="never ends: give num_samples"):
        iterate_samples(dataset.repeat(), IMAGE, num_samples=None)
    with pytest.raises(QuantizationError, match=r"batch axis is missing.*dataset.batch\(32\)"):
        iterate_samples(dataset.unbatch(), IMAGE)
    named = dataset.map(lambda image, label: {"image": image, "label": label})
    assert np.array_equal(joined(iterate_samples(named, IMAGE))["image"], x)


def test_py_dataset():
    keras = pytest.importorskip("keras")
    x = images(20)

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return x[8 * index : 8 * index + 8], np.zeros(8)

    stream = iterate_samples(Data(), IMAGE, epochs=2)
    assert stream.total == 6
    assert np.array_equal(joined(stream)["image"], np.concatenate([x, x]))
    assert np.array_equal(joined(stream)["image"], np.concatenate([x, x]))


def test_random_samples_warn_once():
    with pytest.warns(UserWarning, match="calibrating with random numbers") as warned:
        stream = iterate_samples(
            None, TWO, num_samples=40, random_range={"left": (-2.0, 3.0), "right": (0, 255)}
        )
        result = joined(stream)
    assert len(warned) == 1 and stream.total == 2
    assert stream.dtypes == {"left": np.dtype(np.float32), "right": np.dtype(np.uint8)}
    assert result["left"].min() < -1.5 and result["left"].max() > 2.5
    assert result["right"].max() > 200
    assert np.array_equal(joined(stream)["left"], result["left"])


@pytest.mark.parametrize(
    ("limits", "dtype"), [((0, 255), "uint8"), ((-128, 127), "int8"), ((-1, 300), "int16")]
)
def test_random_integers(limits, dtype):
    with pytest.warns(UserWarning, match="random"):
        stream = iterate_samples(None, IMAGE, num_samples=4, random_range=limits)
    assert stream.dtypes["image"] == np.dtype(dtype)


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((0, 4, 4, 3)), "the arrays are empty"),
        (np.zeros((4, 4, 3)), "batch axis is missing"),
        (np.zeros((5, 3, 4, 4)), "channels come last here"),
        (np.zeros((5, 4, 5, 3)), r"expected samples of shape \(n, 4, 4, 3\), got \(5, 4, 5, 3\)"),
        (np.full((2, 4, 4, 3), "a"), "expected numbers, got elements of dtype <U1"),
        (np.full((2, 4, 4, 3), None), "dtype object"),
        (np.zeros((2, 4, 4, 3), complex), "dtype complex128"),
        ([np.zeros((4, 4, 3))] * 7, "the samples have 7 arrays.*numpy.stack"),
        ({"img": np.zeros((2, 4, 4, 3))}, "no entry for input 'image'.*entries are \\['img'\\]"),
        ([[1.0], [1.0, 2.0]], "can't be made an array"),
        (iter([]), "gave no batch"),
        (iter([np.zeros((0, 4, 4, 3))]), "A batch of samples is empty"),
        (iter([(np.zeros((1, 4, 4, 3)),) * 4]), "tuple of 4"),
        (3.5, "Samples are a float; expected arrays"),
        (object(), "Samples are a object"),
    ],
)
def test_bad_samples(samples, message):
    with pytest.raises(QuantizationError, match=message):
        iterate_samples(samples, IMAGE)


def test_channel_axis_hint(tmp_path):
    with pytest.raises(QuantizationError, match="channel axis is missing"):
        iterate_samples(np.zeros((5, 28, 28)), [("digit", (28, 28, 1))])
    np.savez(tmp_path / "digits.npz", x_train=np.zeros((5, 28, 28)), y_train=np.zeros(5))
    with pytest.raises(QuantizationError, match=r"it holds .* channel axis is missing"):
        iterate_samples(tmp_path / "digits.npz", [("digit", (28, 28, 1))])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(bad):
    x = images(40, np.float32)
    x[35, 1, 2, 0] = bad
    stream = iterate_samples(x, IMAGE)
    with pytest.raises(NonFiniteError, match=r"input 'image': NaN.*index \(3, 1, 2, 0\)"):
        list(stream)


def test_inputs_of_different_length():
    with pytest.raises(QuantizationError, match="'left': 4, 'right': 5"):
        iterate_samples([np.ones((4, 3)), np.ones((5, 2, 2))], TWO)
    with pytest.raises(QuantizationError, match="'left': 4, 'right': 5"):
        iterate_samples(iter([[np.ones((4, 3)), np.ones((5, 2, 2))]]), TWO)


def test_dtype_may_not_change():
    stream = iterate_samples(lambda: iter([images(4), images(4, np.float32)]), IMAGE)
    with pytest.raises(QuantizationError, match="change from dtype kind 'u' to float32"):
        list(stream)


@pytest.mark.parametrize("kind", ["generator", "function", "array"])
def test_num_samples_is_the_most_that_are_taken_and_fewer_are_no_fault(kind):
    x = images(20)
    samples = {"generator": batches_of(x), "function": lambda: batches_of(x), "array": x}[kind]
    assert len(joined(iterate_samples(samples, IMAGE, num_samples=64))["image"]) == 20


class Loader:
    """Batches of four, of which it says there are so many."""

    def __init__(self, batches, length):
        self.batches, self.length = batches, length

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter([images(4)] * self.batches)


def test_batches_that_a_length_promises_are_missed():
    with pytest.warns(UserWarning, match="ended after 3 of the 5 batches .* goes on with the 12"):
        assert len(joined(iterate_samples(Loader(3, 5), IMAGE))["image"]) == 12
    # As many as were asked for; all of them; a length that counts samples.
    for loader, most in ((Loader(3, 5), 12), (Loader(5, 5), 64), (Loader(3, 12), 64)):
        assert len(joined(iterate_samples(loader, IMAGE, num_samples=most))["image"]) <= 20


def test_later_epochs_have_the_samples_of_the_first():
    used = batches_of(images(20))
    with pytest.raises(SampleError, match="used up: at first there were 20, and now none.*new gen"):
        list(iterate_samples(lambda: used, IMAGE, epochs=2))
    fewer = iter([images(8), images(4)])
    with pytest.warns(UserWarning, match="ended after 4 of the 8 samples that were read at first"):
        list(iterate_samples(lambda: iter([next(fewer)]), IMAGE, epochs=2))


def test_generator_serves_once():
    with pytest.raises(QuantizationError, match="epochs is 2, but a generator"):
        iterate_samples(batches_of(images(20)), IMAGE, epochs=2)
    stream = iterate_samples(batches_of(images(20)), IMAGE, num_samples=20)
    list(stream)
    with pytest.raises(QuantizationError, match="used up"):
        list(stream)


@pytest.mark.parametrize("name", ["num_samples", "batch_size", "epochs"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True, "8"])
def test_bad_counts(name, value):
    with pytest.raises(QuantizationError, match=f"{name} is .*whole number of at least 1"):
        iterate_samples(images(4), IMAGE, **{name: value})


def test_random_samples_need_known_sizes():
    with pytest.raises(QuantizationError, match=r"\(n, any, 3\): random samples need known sizes"):
        iterate_samples(None, [("x", (None, 3))])


# --- broken files ------------------------------------------------------------------------------


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(QuantizationError, match=r"gone.npz' does not exist"):
        iterate_samples(tmp_path / "gone.npz", IMAGE)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(QuantizationError, match=r"is not an .npz archive, or is cut off"):
        iterate_samples(tmp_path / "text.npz", IMAGE)
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(QuantizationError, match=r"is not an .npy array"):
        iterate_samples(tmp_path / "text.npy", IMAGE)
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(QuantizationError, match="holds no arrays"):
        iterate_samples(tmp_path / "other.npz", IMAGE)


def test_arrays_that_do_not_fit(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros((4, 8, 8, 3)), y=np.arange(4))
    with pytest.raises(QuantizationError, match=r"no array of .* it holds \{'a': \(4, 8, 8, 3\)"):
        iterate_samples(tmp_path / "a.npz", IMAGE)
    with pytest.raises(QuantizationError, match="no entry for input 'left'"):
        iterate_samples(tmp_path / "a.npz", TWO)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_truncated_archive(share, tmp_path):
    file = tmp_path / "cut.npz"
    np.savez_compressed(file, x=images(50))
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(QuantizationError, match="cut off"):
        list(iterate_samples(file, IMAGE))


def test_member_shorter_than_its_header_says(tmp_path):
    stored = io.BytesIO()
    np.save(stored, images(50))
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        archive.writestr("x.npy", stored.getvalue()[:-10])
    with pytest.raises(QuantizationError, match=r"'x' of .* is damaged: it claims .* holds"):
        iterate_samples(tmp_path / "short.npz", IMAGE)


def test_damaged_bytes(tmp_path):
    file = tmp_path / "damaged.npz"
    np.savez_compressed(file, x=images(500))
    data = bytearray(file.read_bytes())
    data[5000:5100] = bytes(100)
    file.write_bytes(bytes(data))
    with pytest.raises(QuantizationError, match="damaged"):
        list(iterate_samples(file, IMAGE))


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", image=np.full((2, 4, 4, 3), None))
    with pytest.raises(QuantizationError, match="dtype object"):
        iterate_samples(tmp_path / "objects.npz", IMAGE)
