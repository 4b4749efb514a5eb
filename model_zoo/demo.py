"""The demo, `python -m model_zoo.demo`: ResNet8 to integers, and proof that the integers agree.

The network and the images are those of the package. It is quantized to 8 bits, then to 4 bits,
then retrained a little at 4 bits; the two results go through files: saved, loaded, converted,
saved as programs, loaded, run. One table says what each of them scores, how large it is, and
whether the Keras model and the integer program agree in every integer of every layer. The exit
status is 1 if they do not.

    python -m model_zoo.demo --keep DIR

leaves the files in DIR, for the command line to play with.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import quantkeras as qk
from model_zoo.demo_data import cifar10_demo
from quantkeras.cli.keras_import import import_keras
from quantkeras.terminal.progress import progress_bar
from quantkeras.terminal.text_tables import print_table

if TYPE_CHECKING:
    import keras

    from quantkeras.conversion import VerifyReport

BEGIN = time.perf_counter()

HEADER = ("ResNet8", "accuracy", "bytes", "integers compared", "differing")

EIGHT = qk.QuantizationParams()
# Of the observers and weight ranges, these keep the 4-bit network closest to the float one on the
# training images: least Kullback-Leibler divergence of the outputs, which needs no labels.
FOUR = qk.QuantizationParams(weight_bits=4, activation_bits=4, observer="mse")


@dataclass(frozen=True)
class Settings:
    """How much of everything: numbers of images, and of the retraining.

    compared: how many of the test images are compared layer by layer.
    """

    train_images: int = 2000
    test_images: int = 1000
    compared: int = 250
    epochs: int = 4
    batch: int = 50


@dataclass(frozen=True)
class Row:
    """One line of the table; what does not apply is None."""

    name: str
    accuracy: float
    size: int | None = None
    report: VerifyReport | None = None

    def cells(self) -> tuple[str, ...]:
        """The line as text."""
        compared = differing = "-"
        if self.report is not None:
            compared = f"{self.report.elements:,}"
            differing = f"{sum(layer.differing for layer in self.report.layers):,}"
        size = "-" if self.size is None else f"{self.size:,}"
        return self.name, f"{self.accuracy:.1%}", size, compared, differing


class Demo:
    """The steps of the demo on the images of the package; files go to `folder`."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        from model_zoo import resnet8

        self.settings = settings
        self.folder = folder
        (x_train, _), (x_test, y_test) = cifar10_demo()
        self.x_train = x_train[: settings.train_images]
        self.x_test = x_test[: settings.test_images]
        self.y_test = y_test[: settings.test_images]
        # Logits: a softmax would stay in float behind the program.
        self.model = resnet8.load(classifier_activation=None)

    def run(self) -> list[Row]:
        """All steps; the rows of the table."""
        say("float model")
        size = sum(weight.nbytes for weight in self.model.get_weights())
        rows = [Row("float", self.accuracy(self.model), size)]
        say("8 bits: quantize")
        eight = qk.quantize(self.model, EIGHT, samples=self.x_train)
        rows.append(Row("8/8/8 quantized", self.accuracy(eight)))
        say("8 bits: save, load, convert, run, compare")
        rows.append(self.deployed(eight, "8/8/8", "resnet8_i8_w8_a8"))
        say("4 bits: quantize")
        four = qk.quantize(self.model, FOUR, samples=self.x_train)
        rows.append(Row("8/4/4 quantized (PTQ)", self.accuracy(four)))
        say("4 bits: retrain")
        self.retrain(four)
        rows.append(Row("8/4/4 retrained (QAT)", self.accuracy(four)))
        say("4 bits: save, load, convert, run, compare")
        rows.append(self.deployed(four, "8/4/4", "resnet8_i8_w4_a4"))
        return rows

    def accuracy(self, model: Any) -> float:
        """Share of the test images that a Keras model gets right."""
        scores = model.predict(self.x_test, batch_size=250, verbose=0)
        return float(np.mean(np.argmax(scores, axis=1) == self.y_test))

    def retrain(self, model: keras.Model) -> None:
        """Quantization-aware training towards the outputs of the float model; no labels."""
        import keras

        settings = self.settings
        steps = settings.epochs * -(-len(self.x_train) // settings.batch)
        with progress_bar(steps, "retraining") as advance:
            callback = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: advance(1)
            )
            qk.retrain(
                model,
                self.x_train,
                teacher=self.model,
                batch_size=settings.batch,
                epochs=settings.epochs,
                callbacks=[callback],
                verbose=0,
            )

    def deployed(self, model: keras.Model, bits: str, name: str) -> Row:
        """The row of a program: everything goes through files, then the integers are compared."""
        place = self.folder / f"{name}.h5"
        program_place = place.with_suffix(".qkp")
        qk.save_model(model, place)
        loaded = qk.load_model(place)
        qk.convert(loaded).save(program_place)
        program = qk.Program.load(program_place)
        accuracy = program.evaluate(self.x_test, self.y_test, verbose=True)["accuracy"]
        report = qk.verify(loaded, program, self.x_test, self.settings.compared)
        return Row(f"{bits} program", accuracy, program_place.stat().st_size, report)

    def keep_sources(self) -> None:
        """The float model and the test images beside the results."""
        qk.save_model(self.model, self.folder / "resnet8.keras")
        np.savez(self.folder / "images.npz", x_test=self.x_test, y_test=self.y_test)


def say(step: str) -> None:
    """Tell, on a terminal only, what comes next and how many seconds have passed."""
    if sys.stderr.isatty():
        print(f"{time.perf_counter() - BEGIN:5.1f} s  {step}", file=sys.stderr, flush=True)


def show(rows: Sequence[Row], settings: Settings) -> bool:
    """Print the table and the verdict; whether all integers agree."""
    reports = [row.report for row in rows if row.report is not None]
    exact = all(report.exact for report in reports)
    notes = [
        "8/4/4: bits of the first and last layer's weights, of the other weights, of activations.",
        f"Accuracy on {settings.test_images:,} test images. Bytes: float32 weights, program file.",
    ]
    if exact:
        notes.append(
            f"The integers agree: {sum(report.elements for report in reports):,} compared in "
            f"{reports[0].samples:,} images, every layer of both programs, none differs."
        )
    else:
        notes.append("The integers do NOT agree:")
        notes += [note for report in reports for note in (report.title, *report.notes)]
    print_table(
        "ResNet8 on CIFAR-10, from float to integers", HEADER, [row.cells() for row in rows], notes
    )
    return exact


def main(words: Sequence[str] | None = None) -> int:
    """Run the demo; 1 if the integers of a program and its Keras model differ."""
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m model_zoo.demo", description="ResNet8 from float to integers, with proof."
    )
    add = parser.add_argument
    add("--train-images", type=int, default=default.train_images, metavar="N")
    add("--test-images", type=int, default=default.test_images, metavar="N")
    add("--compared", type=int, default=default.compared, metavar="N", help="layer by layer")
    add("--epochs", type=int, default=default.epochs, metavar="N", help="of the retraining")
    add("--keep", type=Path, metavar="DIR", help="leave the files there")
    arguments = vars(parser.parse_args(words))
    keep = arguments.pop("keep")
    settings = Settings(**arguments)
    # TensorFlow's first messages would stand above the table; who wants them sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    say("TensorFlow")
    import_keras()
    import keras

    # TensorFlow advises against tracing anew; that several models do so is in the nature of this.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
        demo = Demo(settings, keep or Path(temporary))
        rows = demo.run()
        if keep is not None:
            demo.keep_sources()
    return 0 if show(rows, settings) else 1


if __name__ == "__main__":
    sys.exit(main())
