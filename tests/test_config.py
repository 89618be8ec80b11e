"""Settings of the environment: what a variable says, and what is said of one that means nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

NAMES = ["CHECK", "DISABLE_JIT", "DEBUG_NANS", "DEBUG_INFS", "CHECK_TRACER_LEAKS", "CACHE", "NATIVE"]


def read(*shown: str, **settings: str) -> str:
    """What `config` says where these are the only variables of funcgrad, or what is written to stderr."""
    env = {name: x for name, x in os.environ.items() if not name.startswith("FUNCGRAD_")}
    code = f"from funcgrad.core import config; print(*(getattr(config, name) for name in {shown}))"
    run = subprocess.run(
        [sys.executable, "-c", code], env=env | settings, capture_output=True, text=True, timeout=60, check=False
    )
    return (run.stdout + run.stderr).strip()


def test_without_settings() -> None:
    assert read(*NAMES, "CHECK_FIRST") == "False False False False False True True False"


@pytest.mark.parametrize(("word", "value"), [("0", False), ("1", True), ("no", False), ("TRUE", True), (" on ", True)])
def test_a_switch_says_yes_or_no(word: str, value: bool) -> None:
    settings = {f"FUNCGRAD_{name}": word for name in NAMES}
    assert read(*NAMES, **settings) == " ".join([str(value)] * len(NAMES))


def test_an_empty_variable_is_none() -> None:
    assert read("CHECK", "NATIVE", FUNCGRAD_CHECK="", FUNCGRAD_NATIVE="") == "False True"


def test_the_first_call_is_compared() -> None:
    assert read("CHECK", "CHECK_FIRST", FUNCGRAD_CHECK="first") == "True True"


@pytest.mark.parametrize(
    ("name", "word", "ways"),
    [
        ("FUNCGRAD_CHECK", "frist", "FUNCGRAD_CHECK=0, FUNCGRAD_CHECK=1, FUNCGRAD_CHECK=first"),
        ("FUNCGRAD_NATIVE", "first", "FUNCGRAD_NATIVE=0, FUNCGRAD_NATIVE=1"),
        ("FUNCGRAD_CACHE", "/tmp/code", "FUNCGRAD_CACHE=0, FUNCGRAD_CACHE=1"),
    ],
)
def test_another_value_is_refused(name: str, word: str, ways: str) -> None:
    said = read("CHECK", **{name: word})
    assert f"ArgumentError: [FG002] the environment variable {name} is {word!r}, which is none of its values" in said
    assert said.endswith(f"Fix: one of {ways}")


def test_a_name_that_is_misspelt_is_told() -> None:
    said = read("CHECK", FUNCGRAD_CHEKC="1")
    assert said.startswith("False")
    assert "the environment variable FUNCGRAD_CHEKC has no meaning; did you mean FUNCGRAD_CHECK?" in said
    assert read("CHECK", FUNCGRAD_PROJECT="mine") == "False"


def test_the_import_brings_nothing_heavy() -> None:
    code = "import numpy, sys; before = {*sys.modules}; import funcgrad; print(*{*sys.modules} - before)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    brought = set(run.stdout.split())
    assert "funcgrad" in brought
    assert not brought & {"llvmlite", "scipy", "pathlib"}
