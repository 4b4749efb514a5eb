"""The embedded images: shapes, balance, size, and how the file is made."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from model_zoo import CIFAR10_CLASSES, cifar10_demo
from model_zoo.demo_data import DEMO_FILE, decode_jpegs, pack, pick_per_class


def jpeg_archive(labels: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Grey 8x8 images as JPEG, one per label, and their grey values."""
    greys = np.arange(len(labels)) * 10
    files = []
    for grey in greys:
        stream = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(stream, "JPEG")
        files.append(np.frombuffer(stream.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, files)])
    arrays = {"jpeg": np.concatenate(files), "offsets": offsets, "labels": labels}
    return arrays, greys


@pytest.fixture(scope="module")
def images():
    return cifar10_demo()


def test_embedded_images(images):
    (x_train, y_train), (x_test, y_test) = images
    assert x_train.shape == (2000, 32, 32, 3) and x_test.shape == (1000, 32, 32, 3)
    assert x_train.dtype == x_test.dtype == y_train.dtype == np.uint8
    assert np.bincount(y_train).tolist() == [200] * 10
    assert np.bincount(y_test).tolist() == [100] * 10
    assert x_test.min() == 0 and x_test.max() == 255
    assert len(CIFAR10_CLASSES) == 10


def test_every_prefix_of_tens_is_balanced(images):
    _, (_, y_test) = images
    assert y_test.reshape(-1, 10).tolist() == [list(range(10))] * 100


def test_training_and_test_images_differ(images):
    (x_train, _), (x_test, _) = images
    train = {image.tobytes() for image in x_train}
    assert not any(image.tobytes() in train for image in x_test)


def test_the_file_is_small():
    assert DEMO_FILE.stat().st_size < 3_000_000


def test_pick_per_class_goes_round_and_says_what_is_missing():
    labels = np.array([1, 1, 0, 1, 0])
    assert pick_per_class(labels, 2).tolist() == [2, 0, 4, 1]
    with pytest.raises(ValueError, match="class 0 has 2 images, 3 are wanted"):
        pick_per_class(labels, 3)


def test_pack_keeps_the_chosen_images(tmp_path):
    arrays, greys = jpeg_archive(np.array([1, 0, 0, 1, 1, 0], np.uint8))
    named = {f"{split}_{key}": a for split in ("train", "test") for key, a in arrays.items()}
    np.savez(tmp_path / "all.npz", **named)
    pack(tmp_path / "all.npz", tmp_path / "some.npz", train=2, test=1)
    with np.load(tmp_path / "some.npz") as packed:
        images = decode_jpegs(packed["train_jpeg"], packed["train_offsets"])
        assert packed["train_labels"].tolist() == [0, 1, 0, 1]
        assert packed["test_labels"].tolist() == [0, 1]
    np.testing.assert_allclose(images[:, 4, 4, 0], greys[[1, 0, 2, 3]], atol=2)


def test_without_pillow_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"quantkeras\[zoo\]"):
        cifar10_demo()
