"""Object code on disk: a process starts with what another one has compiled, and trusts nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from funcgrad.compiler.native.machine import llvm, object_cache
from funcgrad.core import config

TEXT = "define i32 @main(ptr %frame) #0 { ret i32 0 }"
NAME = object_cache.key("a program")
CODE = bytes(range(256)) * 10

posix = pytest.mark.skipif(os.name != "posix", reason="these are rights of POSIX")
ordinary = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do everything")
root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    place = tmp_path / "a" / "b"
    monkeypatch.setattr(config, "CACHE", True)
    monkeypatch.setattr(config, "CACHE_DIR", str(place))
    return place


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is compiled from here on."""
    seen = []
    compile_text = llvm.compile_text

    def watched(text: str, level: int = 2) -> bytes:
        seen.append(text)
        return compile_text(text, level)

    monkeypatch.setattr(llvm, "compile_text", watched)
    return seen


# ── what is kept


def test_what_was_stored_is_loaded() -> None:
    assert object_cache.load(NAME) is None
    object_cache.store(NAME, CODE)
    assert object_cache.load(NAME) == CODE
    assert object_cache.load(object_cache.key("another")) is None
    object_cache.store(NAME, b"")
    assert object_cache.load(NAME) == b""


def test_the_key_tells_all_parts_apart() -> None:
    keys = [("a", "b"), ("ab", ""), ("", "ab"), ("a", "b", ""), ("b", "a"), ("ab",)]
    assert len({object_cache.key(*parts) for parts in keys}) == len(keys)


def test_a_text_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = compilations(monkeypatch)
    assert llvm.object_code(TEXT) == llvm.object_code(TEXT)
    assert len(seen) == 1
    llvm.object_code(TEXT, level=0)
    llvm.object_code(TEXT.replace("i32 0", "i32 1"))
    assert len(seen) == 3


def test_another_machine_compiles_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = compilations(monkeypatch)
    llvm.object_code(TEXT)
    monkeypatch.setattr(llvm, "_fingerprint", lambda: "another machine")
    llvm.object_code(TEXT)
    assert len(seen) == 2


def test_switched_off_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(config, "CACHE", False)
    seen = compilations(monkeypatch)
    llvm.object_code(TEXT)
    llvm.object_code(TEXT)
    assert len(seen) == 2 and not folder.exists()


def test_the_second_process_starts_warm(folder: Path) -> None:
    program = f"""
import sys
from funcgrad.compiler.native.machine import llvm
from funcgrad.compiler.native.dispatch import runtime
from funcgrad.compiler.native.dispatch.runtime import Program
def compile_text(text, level=2, real=llvm.compile_text):
    print("compiled")
    return real(text, level)
llvm.compile_text = compile_text
print(runtime.make_entry(Program({TEXT!r}, (), ()))())
"""

    def output(**settings: str) -> list[str]:
        env = {**os.environ, "FUNCGRAD_CACHE_DIR": str(folder), **settings}
        run = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
        return run.stdout.split()

    assert output() == ["compiled", "compiled", "()"]
    assert output() == ["()"]
    assert output(FUNCGRAD_CACHE="0") == ["compiled", "compiled", "()"]


# ── what is not trusted


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[:8] + bytes([data[8] ^ 1]) + data[9:],
        lambda data: b"something else" * 100,
        lambda data: b"\x7fELF" + data[4:],
        lambda data: data[:16] + bytes(32) + data[48:],
    ],
)
def test_a_damaged_file_is_as_good_as_none(damage: object, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = llvm.object_code(TEXT)
    file = only_file(folder)
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    seen = compilations(monkeypatch)
    assert llvm.object_code(TEXT) == good and len(seen) == 1
    assert llvm.object_code(TEXT) == good and len(seen) == 1
    assert only_file(folder) == file


def test_code_that_cannot_be_linked_is_compiled_again(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    other = llvm.compile_text(TEXT.replace("main", "other"))
    llvm.object_code(TEXT)
    object_cache.store(only_file(folder).stem, other)
    seen = compilations(monkeypatch)
    assert llvm.load_text(TEXT, "main").address
    assert len(seen) == 1


def test_a_folder_in_the_place_of_a_file(folder: Path) -> None:
    (folder / f"{NAME}.o").mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    object_cache.store(NAME, CODE)
    assert object_cache.load(NAME) is None
    assert [path.name for path in folder.iterdir()] == [f"{NAME}.o"]


@posix
def test_files_are_private(folder: Path) -> None:
    before = os.umask(0)
    try:
        object_cache.store(NAME, CODE)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert only_file(folder).stat().st_mode & 0o777 == 0o600


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_may_write_to_is_not_used(folder: Path, mode: int) -> None:
    object_cache.store(NAME, CODE)
    folder.chmod(mode)
    assert object_cache.load(NAME) is None
    with pytest.warns(RuntimeWarning, match=f"FUNCGRAD_CACHE_DIR={folder}: others may write to it"):
        object_cache.store(object_cache.key("more"), CODE)
    object_cache.store(object_cache.key("more"), CODE)  # told once
    assert len(list(folder.iterdir())) == 1
    folder.chmod(0o755)
    assert object_cache.load(NAME) == CODE


@posix
def test_a_file_that_others_may_write_to_is_not_used(folder: Path) -> None:
    object_cache.store(NAME, CODE)
    only_file(folder).chmod(0o620)
    assert object_cache.load(NAME) is None


@posix
@root
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_belongs_to_somebody_else_is_not_used(folder: Path, what: str) -> None:
    object_cache.store(NAME, CODE)
    os.chown(folder if what == "folder" else only_file(folder), 12345, -1)
    assert object_cache.load(NAME) is None


@posix
@ordinary
def test_where_nothing_can_be_written_nothing_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    with pytest.warns(RuntimeWarning, match="Permission denied"):
        object_cache.store(NAME, CODE)
    assert object_cache.load(NAME) is None


def test_a_folder_that_cannot_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("a file")
    with pytest.warns(RuntimeWarning, match=r"no machine code is kept in FUNCGRAD_CACHE_DIR=.*File exists"):
        object_cache.store(NAME, CODE)
    assert object_cache.load(NAME) is None
    object_cache.sweep()
    assert folder.read_text() == "a file"
    seen = compilations(monkeypatch)
    assert llvm.object_code(TEXT) and llvm.object_code(TEXT) and len(seen) == 2


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="the folders of Linux")
def test_of_the_platform_s_folder_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "funcgrad").write_text("a file")
    object_cache.store(NAME, CODE)


# ── how much


def test_the_oldest_files_go_first(folder: Path) -> None:
    names = [object_cache.key(str(i)) for i in range(10)]
    for i, name in enumerate(names):
        object_cache.store(name, bytes(1000))
        os.utime(folder / f"{name}.o", (1e9 + i, 1e9 + i))
    object_cache.sweep(limit=20_000)
    assert len(list(folder.iterdir())) == 10
    object_cache.sweep(limit=8_000)
    kept = [object_cache.load(name) is not None for name in names]
    assert kept == [False] * 5 + [True] * 5


def test_what_is_used_counts_as_young(folder: Path) -> None:
    object_cache.store(NAME, CODE)
    file = only_file(folder)
    os.utime(file, (1e9, 1e9))
    object_cache.load(NAME)
    assert time.time() - file.stat().st_mtime < 60


def test_what_a_process_left_half_written_goes(folder: Path) -> None:
    object_cache.store(NAME, CODE)
    for name, age in (("new-old", 10 * 86400), ("new-young", 10)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    (folder / "not ours").write_bytes(bytes(10**6))
    object_cache.sweep()
    assert {path.name for path in folder.iterdir()} == {f"{NAME}.o", "new-young", "not ours"}


def test_now_and_then_the_folder_is_looked_through(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = []
    monkeypatch.setattr(object_cache, "sweep", lambda: sweeps.append(1))
    for i in range(1000):
        object_cache.store(object_cache.key(str(i)), b"")
    assert 1 <= len(sweeps) <= 50


def test_many_threads_at_once() -> None:
    def work(i: int) -> bool:
        name = object_cache.key(str(i % 5))
        object_cache.store(name, CODE * (i % 5))
        return object_cache.load(name) == CODE * (i % 5)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))


# ── where


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="the folders of Linux")
def test_the_folder_is_the_platform_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert object_cache.folder() == Path("/home/ada/.cache/funcgrad")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert object_cache.folder() == Path("/elsewhere/funcgrad")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert object_cache.folder() == Path("/home/ada/.cache/funcgrad")
    monkeypatch.setattr(config, "CACHE_DIR", "~/mine")
    assert object_cache.folder() == Path("/home/ada/mine")
