"""Promises of sleepy_coder.files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from sleepy_coder.errors import InfraError
from sleepy_coder.files import (
    atomic_writer,
    fsync_tree,
    have_folder,
    private_folder,
    sha256_file,
    sha256_files,
    write_atomic,
)


def test_a_written_file_holds_exactly_what_was_given(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"\x00\xff")
    write_atomic(tmp_path / "b", "grüezi\n")
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_bytes() == "grüezi\n".encode()


def test_readers_see_the_old_content_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "pointer"
    write_atomic(path, "old")
    with atomic_writer(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_write_that_raises_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "pointer"
    write_atomic(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_writer(path) as file:
        file.write(b"half of the n")
        raise ZeroDivisionError
    assert [entry.name for entry in tmp_path.iterdir()] == ["pointer"]
    assert path.read_text() == "old"


def test_a_disk_that_refuses_is_an_infra_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="free space"):
        write_atomic(tmp_path / "missing" / "file", "text")


def test_a_disk_that_refuses_even_to_clear_away_is_an_infra_error_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InfraError, match="free space"):
        write_atomic(tmp_path / "file" / "inside", "text")


@pytest.mark.parametrize("have", [have_folder, private_folder])
def test_a_folder_that_the_disk_refuses_is_an_infra_error_too(tmp_path: Path, have: Callable[[Path], None]) -> None:
    have(tmp_path / "state")
    have(tmp_path / "state")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InfraError, match="free space"):
        have(tmp_path / "file" / "state")


def test_a_full_disk_is_an_infra_error_and_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "report"
    write_atomic(path, "old")
    with (
        pytest.raises(InfraError, match="No space left"),
        atomic_writer(path),
        Path("/dev/full").open("wb") as full,
    ):
        full.write(b"new")
        full.flush()
    assert path.read_text() == "old"


def test_the_hash_of_a_file_is_plain_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 300_000)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"x" * 300_000).hexdigest()


def test_the_hash_of_several_files_depends_on_names_and_contents_only(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "a").write_text("1")
        (folder / "b").write_text("2")
    whole = sha256_files([first / "a", first / "b"])
    assert whole == sha256_files([second / "b", second / "a"])
    (second / "a").rename(second / "c")
    assert whole != sha256_files([second / "b", second / "c"])
    (first / "b").write_text("3")
    assert whole != sha256_files([first / "a", first / "b"])


def test_syncing_a_tree_leaves_it_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("text")
    fsync_tree(tmp_path)
    assert (tmp_path / "sub" / "file").read_text() == "text"
