"""How the zoo's classifiers are trained: augmented batches, one schedule, one command line.

Plain Keras: `fit` with an SGD of Nesterov momentum and decoupled weight decay, the learning rate
warmed up linearly and then lowered along half a cosine. The arithmetic may be mixed bfloat16; the
weights are float32 and are saved in a float32 model without the optimizer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from model_zoo.datasets import Split
from model_zoo.fused_batchnorm import fuse_batchnorm

WEIGHTS = Path(__file__).parent / "weights"

Builder = Callable[..., keras.Model]
DataLoader = Callable[[str | Path | None], tuple[Split, Split]]


@dataclass(frozen=True)
class Recipe:
    """What training needs beyond the network and the data.

    learning_rate is the peak; weight_decay is decoupled (each step shrinks kernels by
    learning_rate * weight_decay); shift is in pixels; precision is a Keras dtype policy.
    """

    epochs: int
    learning_rate: float = 0.1
    weight_decay: float = 2e-3
    batch: int = 128
    warmup_epochs: float = 1.0
    flip: bool = True
    shift: int = 2
    precision: str = "mixed_bfloat16"
    seed: int = 0


class AugmentedImages(keras.utils.PyDataset):
    """Shuffled batches of images, each mirrored at random and shifted by up to `shift` pixels.

    x: (n, h, w, c) of any dtype, kept as it is; y: (n,) labels. A batch depends on
    (seed, epoch, index) only, not on how many workers fetch it. The last batch is dropped when it
    is not full: BatchNormalization dislikes small ones.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, recipe: Recipe) -> None:
        super().__init__()
        self._x, self._y, self._recipe = x, y, recipe
        self._epoch = 0
        self._order = self._shuffled()

    def __len__(self) -> int:
        return len(self._x) // self._recipe.batch

    def __getitem__(self, index: int) -> Split:
        batch = self._recipe.batch
        picked = self._order[index * batch : (index + 1) * batch]
        rng = np.random.default_rng((self._recipe.seed, self._epoch, index))
        return augment(self._x[picked], rng, self._recipe), self._y[picked]

    def on_epoch_end(self) -> None:
        self._epoch += 1
        self._order = self._shuffled()

    def _shuffled(self) -> np.ndarray:
        return np.random.default_rng((self._recipe.seed, self._epoch)).permutation(len(self._x))


def augment(x: np.ndarray, rng: np.random.Generator, recipe: Recipe) -> np.ndarray:
    """Mirror half of the images left to right and shift each by up to `recipe.shift` pixels.

    x: (n, h, w, c), or of any shape with flip and shift off. Returns the same shape and dtype;
    pixels that come in from outside mirror the border.
    """
    if recipe.flip:
        mirrored = rng.random(len(x)) < 0.5
        x = np.where(mirrored[:, None, None, None], x[:, :, ::-1], x)
    if recipe.shift:
        margin = (recipe.shift, recipe.shift)
        padded = np.pad(x, ((0, 0), margin, margin, (0, 0)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, x.shape[1:3], axis=(1, 2))
        top, left = rng.integers(0, 2 * recipe.shift + 1, (2, len(x)))
        x = windows[np.arange(len(x)), top, left].transpose(0, 2, 3, 1)
    return x


def train(
    build: Builder,
    train_set: Split,
    test_set: Split,
    recipe: Recipe,
    out: Path,
    start: Path | None = None,
) -> None:
    """Train the classifier `build(classifier_activation=None)` and write it to `out` (.keras).

    start: a weights file to go on from, instead of random weights. The test set only shows
    progress: nothing is chosen by it. Every fifth epoch writes `out` too, so that an interrupted
    run leaves something.
    """
    keras.utils.set_random_seed(recipe.seed)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        model = fuse_batchnorm(build(classifier_activation=None))
    finally:
        keras.config.set_dtype_policy(policy)
    if start is not None:
        plain = build()
        plain.load_weights(start)
        model.set_weights(plain.get_weights())
    batches = AugmentedImages(*train_set, recipe)
    model.compile(
        optimizer=make_optimizer(recipe, len(batches)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    def save_now_and_then(epoch: int, logs: object) -> None:
        if epoch % 5 == 4:
            save(build, model, out)

    model.fit(
        batches,
        epochs=recipe.epochs,
        validation_data=test_set,
        validation_batch_size=500,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=save_now_and_then)],
    )
    save(build, model, out)


def make_optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """SGD whose rate rises from 0 in `warmup_epochs` and falls to 0 along half a cosine.

    In a short training at most half of the steps are warm-up.
    """
    steps = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), steps // 2)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=steps - warmup,
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.SGD(
        schedule, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
    )
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


def save(build: Builder, model: keras.Model, out: Path) -> None:
    """Write the weights of `model` as a float32 model with softmax, without optimizer state."""
    plain = build()
    plain.set_weights(model.get_weights())
    out.parent.mkdir(parents=True, exist_ok=True)
    plain.save(out)


def load(build: Builder, name: str, classifier_activation: str | None) -> keras.Model:
    """Build the network and fill it with the committed weights of `name`.

    Raises FileNotFoundError when the zoo has no weights of that name.
    """
    path = WEIGHTS / f"{name}.keras"
    if not path.is_file():
        raise FileNotFoundError(
            f"no trained weights for {name!r}: train them with"
            f" 'python -m model_zoo.{name} train --data DIR'"
        )
    model = build(classifier_activation=classifier_activation)
    model.load_weights(path)
    return model


def accuracy(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of images (0..1) whose largest output is at the label."""
    scores = model.predict(images, batch_size=500, verbose=0)
    return float(np.mean(np.argmax(scores, axis=-1) == labels))


def command_line(name: str, build: Builder, load_data: DataLoader, recipe: Recipe) -> None:
    """`python -m model_zoo.NAME train|evaluate [--data DIR]`."""
    parser = argparse.ArgumentParser(prog=f"python -m model_zoo.{name}")
    parser.add_argument("action", choices=("train", "evaluate"))
    parser.add_argument("--data", help="folder of the data set (default: $QUANTKERAS_DATA)")
    parser.add_argument("--out", type=Path, default=WEIGHTS / f"{name}.keras")
    parser.add_argument("--start", type=Path, help="weights to go on from (default: random ones)")
    parser.add_argument("--epochs", type=int, default=recipe.epochs)
    parser.add_argument("--learning-rate", type=float, default=recipe.learning_rate)
    parser.add_argument("--shift", type=int, default=recipe.shift, help="pixels")
    parser.add_argument("--seed", type=int, default=recipe.seed)
    arguments = parser.parse_args()
    train_set, test_set = load_data(arguments.data)
    if arguments.action == "train":
        chosen = replace(
            recipe,
            epochs=arguments.epochs,
            learning_rate=arguments.learning_rate,
            shift=arguments.shift,
            seed=arguments.seed,
        )
        train(build, train_set, test_set, chosen, arguments.out, arguments.start)
    model = build()
    model.load_weights(arguments.out)
    print(f"{name}: {accuracy(model, *test_set):.2%} of {len(test_set[0])} test images")
