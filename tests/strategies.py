"""Hypothesis strategies that the tests of all packages share.

`from strategies import ...` works from every test: pytest puts the folder of conftest.py on the
path.
"""

from fractions import Fraction

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantkeras.numerics import Format, Interval


def examples(quick: int, deep: int) -> settings:
    """So many examples for a property test whose single example is dear, by profile.

    As drawn: making a network that fails smaller takes minutes. `explore` draws ten times `deep`.
    """
    counts = {"quick": quick, "deep": deep, "explore": 10 * deep}
    return settings(
        max_examples=counts[settings.get_current_profile_name()],
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )


def int64s(bits: int = 63) -> st.SearchStrategy[int]:
    """Integers of up to `bits` bits beside the sign, with the ends and ties likely."""
    return st.one_of(
        st.integers(-(2**bits), 2**bits - 1),
        st.integers(-9, 9),
        st.builds(lambda odd, n: (2 * odd + 1) << n, st.integers(-4, 3), st.integers(0, bits - 4)),
        st.sampled_from([-(2**bits), 2**bits - 1]),
    )


def finite_floats(width: int = 64) -> st.SearchStrategy[float]:
    """Finite floats, with halves and their neighbours likely."""
    dtype = np.float64 if width == 64 else np.float32
    half = st.builds(lambda n: float(dtype(n + 0.5)), st.integers(-(2**20), 2**20))
    beside = st.builds(
        lambda x, up: float(np.nextafter(dtype(x), dtype(np.inf if up else -np.inf))),
        half,
        st.booleans(),
    )
    return st.one_of(st.floats(allow_nan=False, allow_infinity=False, width=width), half, beside)


@st.composite
def formats(
    draw: st.DrawFn, channels: int | None = None, max_bits: int = 16, spread: int = 12
) -> Format:
    """Formats per tensor, or per channel with fracs that differ by at most `spread`."""
    bits = draw(st.integers(2, max_bits))
    signed = draw(st.booleans())
    lowest = draw(st.integers(-20, 40))
    if channels is None:
        return Format(bits, signed, lowest)
    extra = draw(st.lists(st.integers(0, spread), min_size=channels, max_size=channels))
    return Format(bits, signed, np.array(extra) + lowest)


def float32_weights(
    shape: tuple[int, ...], smallest: float = 2.0**-20
) -> st.SearchStrategy[np.ndarray]:
    """Weights of a plausible size: zero, or smallest <= |w| <= 64."""
    magnitude = st.floats(smallest, 64.0, width=32)
    elements = st.one_of(st.just(0.0), magnitude, magnitude.map(lambda w: -w))
    return hnp.arrays(np.float32, shape, elements=elements)


def integer_arrays(shape: tuple[int, ...], low: int, high: int) -> st.SearchStrategy[np.ndarray]:
    """int64 arrays in low .. high, both inclusive."""
    return hnp.arrays(np.int64, shape, elements=st.integers(low, high))


@st.composite
def intervals(draw: st.DrawFn, channels: int, limit: int = 255) -> Interval:
    """One interval per channel within +- limit."""
    ends = draw(integer_arrays((2, channels), -limit, limit))
    return Interval(ends.min(axis=0), ends.max(axis=0))


def exact_half_up(x: Fraction) -> int:
    """floor(x + 1/2) in rational arithmetic: what every rounding answers to."""
    return (x + Fraction(1, 2)).__floor__()
