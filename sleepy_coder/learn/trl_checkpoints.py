"""The checkpoints of a training through TRL: folders `checkpoint-<step>`; one that bears no mark is none."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, cast

from safetensors import SafetensorError, safe_open

from sleepy_coder.files import fsync_tree, write_atomic

_WHOLE: Final = "whole"  # written last: a checkpoint without it was cut off by a kill
_JOB: Final = "job"


def mark_whole(checkpoint: Path) -> None:
    """Say of a checkpoint that it is whole, once all of it is on the disk. Raises InfraError when the disk refuses."""
    fsync_tree(checkpoint)
    write_atomic(checkpoint / _WHOLE, "")


def last_checkpoint(folder: Path, job_sha: str, tell: Callable[[str], None] = lambda _: None) -> Path | None:
    """The newest checkpoint of this very job that is whole and can be read; those of another are deleted.

    `tell` hears why, where there were some.
    """
    mark = folder / _JOB
    if not mark.is_file() or mark.read_text() != job_sha:
        if any(folder.glob(f"checkpoint-*/{_WHOLE}")):
            tell("the checkpoints are of another job")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_atomic(mark, job_sha)
    whole = sorted((path.parent for path in folder.glob(f"checkpoint-*/{_WHOLE}")), key=step_of, reverse=True)
    return next((checkpoint for checkpoint in whole if _readable(checkpoint)), None)


def step_of(checkpoint: Path) -> int:
    """After how many steps it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def _readable(checkpoint: Path) -> bool:
    """Whether every file is there to its end: once a resumed run has begun to load them, it has no way back."""
    try:
        for path in checkpoint.iterdir():
            if path.suffix in (".pt", ".pth", ".bin") and zipfile.ZipFile(path).testzip():
                return False
            if path.suffix == ".safetensors":
                with cast("AbstractContextManager[object]", safe_open(path, framework="numpy")):
                    pass  # it is as long as its header says
            if path.suffix == ".json":
                json.loads(path.read_bytes())
    except (OSError, ValueError, zipfile.BadZipFile, SafetensorError):
        return False
    return True
