"""What every test shares: threads, compilers, seeds, hypothesis profiles, data folders.

Imports neither NumPy, Keras nor TensorFlow, which read the environment when imported.

Profiles of hypothesis, chosen by HYPOTHESIS_PROFILE: `quick` (the default), `deep` (what
continuous integration runs) and `explore`, which draws new examples every time. The first two are
derandomized, so that a run says the same on every machine.

Tests with reference networks or full data sets skip where these are absent: QUANTKERAS_SHARED
names a folder with models/ and data/ (default: shared/ beside the checkout, if there is one),
QUANTKERAS_DATA one with mnist.npz and cifar10.npz.
"""

import gc
import os
import random
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import numpy as np

pytest.register_assert_rewrite("exactness", "harness")

# Models are many small objects; to look through them every 700 takes a twentieth of the time.
gc.set_threshold(50_000, 20, 20)

if "PYTEST_XDIST_WORKER" in os.environ:
    # One worker a core: threads of their own would only wait for each other. Read at import of
    # the libraries, by the processes that tests start as well.
    for variable in (
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    ):
        os.environ.setdefault(variable, "1")

for name, count in {"quick": 15, "deep": 60}.items():
    settings.register_profile(
        name,
        derandomize=True,
        deadline=None,
        max_examples=count,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.register_profile("explore", deadline=None, max_examples=2000)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
settings.load_profile(PROFILE)

if PROFILE == "quick":
    # Keras leaves XLA out where operations have to be deterministic. To compile a step of training
    # with it takes four times as long; what is exact with it, the deep profile asks of every test.
    os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")


def pytest_runtest_setup() -> None:
    """Unseeded random numbers depend on the test alone; Keras draws its seeds from `random`."""
    import numpy as np

    random.seed(0)
    np.random.seed(0)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> "np.random.Generator":
    """A generator that depends on the name of the test, not on the tests before it."""
    import numpy as np

    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with the reference networks (models/) and packed data (data/); skips without."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("QUANTKERAS_SHARED") or beside)
    if not (folder / "models").is_dir():
        pytest.skip("QUANTKERAS_SHARED names no folder with reference networks")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with mnist.npz and cifar10.npz; skips without."""
    folder = Path(os.environ.get("QUANTKERAS_DATA") or os.devnull)
    if not (folder / "cifar10.npz").is_file():
        pytest.skip("QUANTKERAS_DATA names no folder with mnist.npz and cifar10.npz")
    return folder
