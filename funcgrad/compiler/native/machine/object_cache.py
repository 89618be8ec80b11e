"""Object code on disk, so that the second process need not compile what the first one did.

One file for each program, in a folder that belongs to the user alone. The name of the file is a digest of everything
that the code depends on. Nothing here raises: a file that is damaged, cut off or not ours is as good as none, and
where nothing can be written nothing is kept. If the user has named that folder, he is told, once.

`FUNCGRAD_CACHE=0` in the environment turns it off; `FUNCGRAD_CACHE_DIR` names another folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
import sys
import tempfile
import time
import warnings
from pathlib import Path

from funcgrad.core import config

LIMIT = 256 << 20
"""How many bytes the files may have together; now and then the oldest ones are removed until they do."""

# to be raised whenever the meaning of the text changes, such as the order of what a program is called with
_VERSION = b"1"
# what a file begins with: a mark, the length of the code, its digest
_HEADER = struct.Struct("<8sQ32s")
_MARK = b"fgobj\0\0\1"
_SUFFIX = ".o"
# One write in so many looks at the whole folder. What is used is marked as used at most once a day.
_WRITES_PER_SWEEP = 64
_DAY = 86400.0


def folder() -> Path:
    """Where the files are."""
    if config.CACHE_DIR:
        return Path(config.CACHE_DIR).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "funcgrad"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "funcgrad" / "Cache"
    # the XDG Base Directory Specification has relative paths ignored
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "funcgrad"


def key(*parts: str) -> str:
    """The name for what depends on `parts`, and on nothing else."""
    digest = hashlib.sha256(_VERSION)
    for part in parts:
        data = part.encode()
        digest.update(struct.pack("<Q", len(data)))
        digest.update(data)
    return digest.hexdigest()


def load(name: str) -> bytes | None:
    """The code that was stored under this name; None if there is none, or none that can be trusted."""
    try:
        place = folder()
        if not _is_private(os.stat(place)):
            return None
        with open(place / (name + _SUFFIX), "rb") as file:
            about = os.fstat(file.fileno())
            if not _is_private(about):
                return None
            data = file.read()
            code = _unpacked(data)
            if code is not None and time.time() - about.st_mtime > _DAY:
                os.utime(file.name)
        return code
    except (OSError, RuntimeError):
        # RuntimeError: there is no home folder
        return None


def store(name: str, code: bytes) -> None:
    """Keep code under this name, if that is possible."""
    try:
        place = folder()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(os.stat(place)):
            _tell("others may write to it, or it belongs to somebody else")
            return
        # written beside its place and then renamed, so that nobody ever reads half of it; private from the start
        descriptor, path = tempfile.mkstemp(prefix="new-", dir=place)
    except (OSError, RuntimeError) as error:
        _tell(str(error))
        return
    try:
        try:
            with open(descriptor, "wb") as file:
                file.write(_HEADER.pack(_MARK, len(code), hashlib.sha256(code).digest()) + code)
            os.replace(path, place / (name + _SUFFIX))
        except BaseException:
            os.unlink(path)
            raise
        # the name is a digest, and as good as a die
        if int(name[:8], 16) % _WRITES_PER_SWEEP == 0:
            sweep()
    except (OSError, RuntimeError):
        return


_told: set[str] = set()


def _tell(problem: str) -> None:
    """Say once that a folder which the user has chosen is of no use; without the platform's one does as well."""
    chosen = config.CACHE_DIR
    if chosen and chosen not in _told:
        _told.add(chosen)
        warnings.warn(
            f"no machine code is kept in FUNCGRAD_CACHE_DIR={chosen}: {problem}; choose a folder of your own "
            "(chmod 700), or FUNCGRAD_CACHE=0 for none",
            RuntimeWarning,
            stacklevel=2,
        )


def sweep(limit: int = LIMIT) -> None:
    """Remove the files that have not been used for longest, until three quarters of `limit` are left."""
    files = []
    with contextlib.suppress(OSError, RuntimeError), os.scandir(folder()) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIX) or entry.name.startswith("new-"):
                # it may have been removed by another process since
                with contextlib.suppress(OSError):
                    about = entry.stat(follow_symlinks=False)
                    files.append((about.st_mtime, about.st_size, entry.path))
    total = sum(size for _, size, _ in files)
    now = time.time()
    excess = total - limit * 3 // 4 if total > limit else 0
    for used, size, path in sorted(files):
        abandoned = os.path.basename(path).startswith("new-") and now - used > _DAY
        if excess > 0 or abandoned:
            with contextlib.suppress(OSError):
                os.unlink(path)
                excess -= size


def _unpacked(data: bytes) -> bytes | None:
    if len(data) < _HEADER.size:
        return None
    mark, length, digest = _HEADER.unpack_from(data)
    code = data[_HEADER.size :]
    whole = mark == _MARK and len(code) == length and hashlib.sha256(code).digest() == digest
    return code if whole else None


def _is_private(about: os.stat_result) -> bool:
    """True if nobody else can have put it there: code from a file runs with all rights of the user."""
    if sys.platform == "win32":
        return True
    return about.st_uid == os.geteuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
