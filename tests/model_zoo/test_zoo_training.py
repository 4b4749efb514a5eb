"""The training entry: augmentation, schedule, and a run from data folder to weights file."""

import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from model_zoo import datasets, mlp, training
from model_zoo.fused_batchnorm import fuse_batchnorm

RECIPE = training.Recipe(epochs=1, batch=8)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 12, 10, 3), dtype=np.uint8)


def test_augmented_images_are_windows_of_the_mirrored_or_plain_image(images):
    augmented = training.augment(images, np.random.default_rng(1), RECIPE)
    assert augmented.shape == images.shape and augmented.dtype == np.uint8
    inner = augmented[:, 2:-2, 2:-2]
    for image, got in zip(images, inner, strict=True):
        candidates = [
            side[top : top + 8, left : left + 6]
            for side in (image, image[:, ::-1])
            for top in range(5)
            for left in range(5)
        ]
        assert any(np.array_equal(got, candidate) for candidate in candidates)


def test_no_flip_and_no_shift_leaves_images_alone(images):
    plain = replace(RECIPE, flip=False, shift=0)
    assert training.augment(images, np.random.default_rng(0), plain) is images


def test_batches_are_reproducible_cover_the_data_and_change_with_the_epoch(images):
    labels = np.arange(32)
    first, second = (training.AugmentedImages(images, labels, RECIPE) for _ in range(2))
    assert len(first) == 4
    epoch = [first[index] for index in range(4)]
    np.testing.assert_array_equal(epoch[2][0], second[2][0])
    assert sorted(np.concatenate([y for _, y in epoch])) == list(range(32))
    first.on_epoch_end()
    assert not np.array_equal(first[2][1], epoch[2][1])


def test_learning_rate_rises_and_falls():
    recipe = training.Recipe(epochs=10, learning_rate=0.2, warmup_epochs=2)
    schedule = training.make_optimizer(recipe, steps_per_epoch=5)._learning_rate
    rates = [float(schedule(step)) for step in range(51)]
    assert rates[0] == 0.0 and rates[10] == pytest.approx(0.2) == max(rates)
    assert rates[30] == pytest.approx(0.1) and rates[50] == pytest.approx(0.0, abs=1e-7)


@pytest.mark.slow
def test_command_line_trains_saves_goes_on_and_evaluates(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 512).astype(np.uint8)
    x = np.zeros((512, 28, 28), np.uint8)
    x[np.arange(512), y + 5] = 255  # the class is the row that is lit
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:64], y_test=y[:64])
    out = tmp_path / "mlp.keras"
    recipe = replace(mlp.RECIPE, batch=32, shift=0, precision="mixed_bfloat16")
    arguments = ["--data", str(tmp_path), "--out", str(out), "--epochs", "4"]
    monkeypatch.setattr(sys, "argv", ["mlp", "train", *arguments])
    training.command_line("mlp", mlp.build, datasets.load_mnist, recipe)
    assert "mlp: 100.00% of 64 test images" in capsys.readouterr().out
    saved = keras.saving.load_model(out)
    assert saved.dtype_policy.name == "float32" and not saved.compiled
    assert keras.config.dtype_policy().name == "float32"

    more = ["--data", str(tmp_path), "--out", str(tmp_path / "more.keras"), "--start", str(out)]
    arguments = [*more, "--epochs", "1", "--learning-rate", "1e-6"]
    monkeypatch.setattr(sys, "argv", ["mlp", "train", *arguments])
    training.command_line("mlp", mlp.build, datasets.load_mnist, recipe)
    assert "mlp: 100.00% of 64 test images" in capsys.readouterr().out


def test_missing_data_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("QUANTKERAS_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="QUANTKERAS_DATA"):
        datasets.load_cifar10()
    monkeypatch.setenv("QUANTKERAS_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"mnist\.npz is missing"):
        datasets.load_mnist()


def test_missing_weights_say_how_to_train():
    with pytest.raises(FileNotFoundError, match=r"model_zoo\.wakeword train"):
        training.load(mlp.build, "wakeword", None)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow only")
def test_fused_batchnorm_trains_as_the_plain_layer_does():
    rng = np.random.default_rng(0)
    x = rng.normal(1.0, 2.0, (16, 8, 8, 3)).astype(np.float32)
    image = keras.Input((8, 8, 3))
    plain = keras.Model(image, keras.layers.BatchNormalization(momentum=0.5)(image))
    plain.set_weights([rng.uniform(0.5, 1.5, 3).astype(np.float32) for _ in range(4)])
    fused = fuse_batchnorm(plain)
    fused.set_weights(plain.get_weights())
    expected = plain(x, training=True)
    np.testing.assert_allclose(fused(x, training=True), expected, atol=1e-5)
    for got, wanted in zip(fused.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-3)
    plain.set_weights(fused.get_weights())
    np.testing.assert_array_equal(fused(x, training=False), plain(x, training=False))
