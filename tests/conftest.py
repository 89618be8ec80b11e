"""What holds for all tests: every jaxpr is checked, no window opens, and how hard hypothesis searches."""

import atexit
import os
import shutil
import tempfile

import pytest
from hypothesis import settings

os.environ.setdefault("FUNCGRAD_CHECK", "first")
if "FUNCGRAD_CACHE_DIR" not in os.environ:
    # the machine code of a run is its own, and goes with it
    os.environ["FUNCGRAD_CACHE_DIR"] = tempfile.mkdtemp(prefix="funcgrad-tests-")
    atexit.register(shutil.rmtree, os.environ["FUNCGRAD_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture
def uncompared(monkeypatch: pytest.MonkeyPatch) -> None:
    """For long computations: results of machine code are not compared with NumPy's."""
    from funcgrad.core import config

    monkeypatch.setattr(config, "COMPARE", False)


# Timings mean little on a shared machine, so no example has a deadline. `default` repeats the same examples
# in every run; to look for new ones: make test ARGS=--hypothesis-profile=search
settings.register_profile("default", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("default")
