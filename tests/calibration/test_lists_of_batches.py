"""Lists of batches are read as a generator of them would be; lists of arrays are inputs."""

from __future__ import annotations

import numpy as np
import pytest

from quantkeras.calibration.sample_shapes import SampleShapes
from quantkeras.calibration.samples import SampleError, iterate_samples

TWO = [("left", (3,)), ("right", (2,))]
ONE = [("left", (3,))]
LEFT = np.arange(12, dtype=np.float32).reshape(4, 3)
RIGHT = np.arange(8, dtype=np.float32).reshape(4, 2)
LABELS = np.arange(4)


@pytest.mark.parametrize(
    "samples",
    [
        [{"right": RIGHT[k : k + 2], "left": LEFT[k : k + 2]} for k in (0, 2)],
        ({"right": RIGHT[k : k + 1], "left": LEFT[k : k + 1]} for k in range(4)),
        tuple({"right": RIGHT[k : k + 1], "left": LEFT[k : k + 1]} for k in range(4)),
        [(LEFT[k : k + 1], RIGHT[k : k + 1]) for k in range(4)],
        [({"right": RIGHT[:3], "left": LEFT[:3]}, LABELS[:3]), ({"right": RIGHT[3:], "left": LEFT[3:]}, LABELS[3:])],  # noqa: E501
    ],
    ids=["dicts", "generator", "tuple of dicts", "tuples", "dicts with labels"],
)  # fmt: skip
def test_batches_of_several_inputs(samples: object) -> None:
    batches = list(iterate_samples(samples, TWO))
    assert np.array_equal(np.concatenate([batch["left"] for batch in batches]), LEFT)
    assert np.array_equal(np.concatenate([batch["right"] for batch in batches]), RIGHT)


def test_batches_of_one_input_with_labels() -> None:
    stream = iterate_samples([(LEFT[:2], LABELS[:2]), (LEFT[2:], LABELS[2:])], ONE)
    for _ in range(2):  # a list is there to be read again
        assert np.array_equal(np.concatenate([batch["left"] for batch in stream]), LEFT)


def test_lists_of_numbers_and_of_arrays_are_what_they_were() -> None:
    (batch,) = iterate_samples(LEFT.tolist(), ONE)
    assert np.array_equal(batch["left"], LEFT)
    (batch,) = iterate_samples([tuple(row) for row in LEFT.tolist()], ONE)
    assert np.array_equal(batch["left"], LEFT)
    (batch,) = iterate_samples([LEFT, RIGHT], TWO)
    assert np.array_equal(batch["right"], RIGHT)


def test_batches_without_an_input_or_a_batch_axis_are_told_of() -> None:
    with pytest.raises(SampleError, match="no entry for input 'right'"):
        iterate_samples([{"left": LEFT}], TWO)
    with pytest.raises(SampleError, match="The batch axis is missing"):
        iterate_samples([{"left": LEFT[0], "right": RIGHT[0]}], TWO)


def test_shapes_are_read_off_the_first_batch() -> None:
    named = [{"left": LEFT, "right": RIGHT}]
    assert SampleShapes(named).nested()[0] == {"left": (3,), "right": (2,)}
    assert SampleShapes([(LEFT, LABELS)]).nested()[0] == (3,)
