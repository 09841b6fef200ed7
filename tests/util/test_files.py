"""Files and directories in one piece: what is there before and after, also after a fault."""

import contextlib
import errno
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from keras2gp._util import files
from keras2gp._util.array_files import array_writer
from keras2gp.errors import ModelFileError, StoreError


def full(stream):
    stream.write(b"half")
    raise OSError(28, "No space left on device")


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("content", [
    b"ab", "ab", bytearray(b"ab"), memoryview(b"ab"), lambda stream: stream.write(b"ab"),
])  # fmt: skip
def test_a_file_is_written_and_replaced(content, tmp_path):
    path = tmp_path / "f"
    for _ in range(2):
        files.write_file(path, content)
        assert path.read_bytes() == b"ab"
        assert names(tmp_path) == ["f"]
        path.write_bytes(b"old")


def test_a_fault_changes_nothing(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"old")
    with pytest.raises(ModelFileError, match=r"a, .*b cannot be written: No space left"):
        files.write_files([(first, b"new"), (second, full)], ModelFileError)
    assert first.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_name_of_full_length_and_a_missing_parent(tmp_path):
    files.write_file(tmp_path / ("ü" * 127), b"")
    with pytest.raises(StoreError, match="cannot be written"):
        files.write_file(tmp_path / ("n" * 300), b"")
    with pytest.raises(StoreError, match="No such file"):
        files.write_file(tmp_path / "no" / "f", b"")


@pytest.mark.parametrize("kind", ["link", "dangling link", "directory", "pipe"])
def test_only_regular_files_are_replaced(kind, tmp_path):
    path, other = tmp_path / "f", tmp_path / "other"
    other.write_bytes(b"mine")
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(other if kind == "link" else tmp_path / "nothing")
    before = path.lstat()
    with pytest.raises(StoreError, match=r"f is a (symbolic link|directory|pipe)"):
        files.write_file(path, b"new")
    assert path.lstat() == before
    assert other.read_bytes() == b"mine"
    assert names(tmp_path) == ["f", "other"]


def test_a_temporary_file_that_is_swept_is_written_again(tmp_path, monkeypatch):
    fsync, calls = os.fsync, []

    def swept(descriptor):
        fsync(descriptor)
        calls.append(descriptor)
        if len(calls) < 4:
            files.sweep(tmp_path)

    monkeypatch.setattr(os, "fsync", swept)
    files.write_file(tmp_path / "chunk", b"abc")
    assert (tmp_path / "chunk").read_bytes() == b"abc"
    assert len(calls) == 4


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "d"
    for content in ("one", "two"):
        with files.staged_directory(target) as staged:
            (staged / content).write_text(content)
            (staged / "sub").mkdir()
            assert not (target / content).exists()
        assert names(target) == sorted([content, "sub"])
    with contextlib.suppress(KeyError), files.staged_directory(target) as staged:
        (staged / "three").write_text("")
        raise KeyError
    assert names(target) == ["sub", "two"]
    assert names(tmp_path) == ["d"]


def test_a_full_disk_keeps_the_earlier_directory(tmp_path):
    target = tmp_path / "d"
    target.mkdir()
    (target / "old").write_text("old")
    with (
        pytest.raises(StoreError, match=r"d cannot be written: No space left"),
        files.staged_directory(target) as staged,
        (staged / "new").open("wb") as stream,
    ):
        full(stream)
    assert names(target) == ["old"]
    assert names(tmp_path) == ["d"]


def test_a_directory_that_cannot_be_put_in_place_is_put_back(tmp_path, monkeypatch):
    target = tmp_path / "d"
    target.mkdir()
    (target / "old").write_text("old")
    rename = files.Path.rename

    def refuse(self, other):
        if self.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        return rename(self, other)

    monkeypatch.setattr(files.Path, "rename", refuse)
    with pytest.raises(StoreError, match="Input/output"), files.staged_directory(target) as staged:
        (staged / "new").write_text("")
    assert names(target) == ["old"]
    assert names(tmp_path) == ["d"]


def test_foreign_files_are_kept(tmp_path):
    target = tmp_path / "d"
    (target / "sub").mkdir(parents=True)
    (target / "ours.json").write_text("")
    (target / "sub" / "a.npy").write_text("")
    with files.staged_directory(target, ["*.json", "sub/*.npy"]) as staged:
        (staged / "ours.json").write_text("")
    assert names(target) == ["ours.json"]
    (target / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"did not write: notes\.txt"):
        files.staged_directory(target, ["*.json"]).__enter__()
    (target / "notes.txt").unlink()
    (target / "link.json").symlink_to(tmp_path)
    assert files.foreign_files(target, ["*.json"]) == ["link.json"]
    (target / "link.json").unlink()
    with (  # a file that comes while the block runs
        pytest.raises(StoreError, match=r"late\.txt"),
        files.staged_directory(target, ["*.json"]) as staged,
    ):
        (target / "late.txt").write_text("mine")
    assert names(target) == ["late.txt", "ours.json"]
    assert names(tmp_path) == ["d"]


@pytest.mark.parametrize("kind", ["link", "file", "pipe"])
def test_only_directories_are_replaced(kind, tmp_path):
    target, real = tmp_path / "d", tmp_path / "real"
    real.mkdir()
    if kind == "link":
        target.symlink_to(real)
    elif kind == "file":
        target.write_text("mine")
    else:
        os.mkfifo(target)
    with pytest.raises(StoreError, match="not a directory"):
        files.staged_directory(target).__enter__()
    assert names(tmp_path) == ["d", "real"]


def half_written(target, fault):
    with files.staged_file(target) as staged:
        staged.write_text("half")
        raise fault


def test_a_file_that_a_library_writes_by_its_name(tmp_path):
    target = tmp_path / "model.keras"
    with files.staged_file(target) as staged:
        assert staged.suffix == ".keras"
        staged.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    for fault, raised in (
        (OSError(28, "No space left on device"), StoreError),
        (KeyError(), KeyError),
    ):
        with pytest.raises(raised):
            half_written(target, fault)
    with pytest.raises(StoreError, match="cannot be written"), files.staged_file(target):
        pass  # nothing was written
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]
    assert target.read_text() == "whole"
    (tmp_path / "link.keras").symlink_to(target)
    with (
        pytest.raises(StoreError, match="symbolic link"),
        files.staged_file(tmp_path / "link.keras"),
    ):
        pass
    killed = files.temporary_name(target)
    killed = killed.with_name(killed.name + ".keras")
    killed.write_text("half")
    files.sweep(tmp_path)
    assert not killed.exists()


def test_sweeping_leaves_what_is_not_ours(tmp_path):
    target = tmp_path / "K"
    (target / "sub").mkdir(parents=True)
    ours = files.temporary_name(target / "sub" / "0")
    mine = [target / ".mine.partial", target / f".0.{'a' * 31}.partial", target / "x.partial"]
    for path in (ours, *mine):
        path.write_text("")
    old, young = files.temporary_name(target), files.temporary_name(target)
    other = files.temporary_name(tmp_path / "K2")
    for path in (old, young, other):
        path.mkdir()
    for path in (old, other):
        os.utime(path, (0, time.time() - 4000))
    files.sweep(target)
    assert not ours.exists()
    assert not old.exists()
    assert young.exists()
    assert other.exists()
    assert all(path.exists() for path in mine)


def test_a_kill_leaves_the_old_directory_or_the_new_one(tmp_path):
    code = (
        "import sys, os, pathlib; from keras2gp._util import files\n"
        "with files.staged_directory(pathlib.Path(sys.argv[1])) as d:\n"
        "    (d / 'new').write_text(''); os._exit(9) if sys.argv[2] == 'die' else None\n"
    )
    for word, expected in (("live", ["new"]), ("die", ["new"])):
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", code, tmp_path / "d", word], check=False
        )
        assert names(tmp_path / "d") == expected


def test_a_new_file_replaces_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a" / "b.yaml"
    files.write_new_file(path, "text")
    with pytest.raises(StoreError, match=r"b\.yaml exists by now, and is not replaced. Try: "):
        files.write_new_file(path, "other")
    assert path.read_text() == "text"

    def no_room(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(StoreError, match=r"c\.yaml cannot be written: No space left"):
        files.write_new_file(tmp_path / "c.yaml", "text")
    assert [found.name for found in tmp_path.iterdir()] == ["a"]
    with pytest.raises(StoreError, match=r"b\.yaml cannot be made: File exists"):
        files.write_new_file(path / "d", "text")


def test_an_array_that_the_disk_does_not_take_is_told_with_the_cause(tmp_path):
    resource = pytest.importorskip("resource")
    path, array = tmp_path / "a.npy", np.arange(10_000.0).reshape(100, 100)
    files.write_file(path, array_writer(array[:3]))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, before[1]))
    try:
        with pytest.raises(StoreError, match="File too large") as caught:
            files.write_file(path, array_writer(array))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.__cause__.errno == errno.EFBIG
    np.testing.assert_array_equal(np.load(path), array[:3])
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "<U3"])
def test_arrays_are_the_bytes_that_numpy_saves(tmp_path, order, dtype):
    array = np.arange(12.0).reshape(3, 4).astype(dtype, order=order)
    files.write_file(tmp_path / "a.npy", array_writer(array))
    np.save(tmp_path / "b.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_folders_that_nothing_was_written_into_go_again(tmp_path):
    old = tmp_path / "old"
    with files.made_folders(old / "a", old / "b"):
        pass
    assert sorted(path.name for path in old.iterdir()) == ["a", "b"]

    def stopped(*folders):
        with files.made_folders(*folders):
            (folders[0] / "file").touch()
            raise KeyboardInterrupt

    new = tmp_path / "new"
    with pytest.raises(KeyboardInterrupt):
        stopped(new / "y", new / "z", old / "a")
    assert [path.name for path in new.iterdir()] == ["y"]
    assert sorted(path.name for path in old.iterdir()) == ["a", "b"]
    with pytest.raises(StoreError, match="file/a cannot be made: "):
        stopped(new / "y" / "file" / "a")


def test_a_directory_in_which_one_is_at_work(tmp_path, monkeypatch):
    """Others are refused, in this process and in another one, which a kill sets free."""
    script = f"""
import pathlib, time
from keras2gp._util import files
with files.held(pathlib.Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    words = f"another process is at work in {re.escape(str(tmp_path))}. Try: another directory"
    with files.held(tmp_path):
        with pytest.raises(StoreError, match=words), files.held(tmp_path):
            pass
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)  # noqa: S603, PLW1510
        assert done.returncode == 1
        assert re.search(words, done.stderr)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:  # noqa: S603
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match=words), files.held(tmp_path):
            pass
        other.kill()
    with files.held(tmp_path):
        pass
    assert names(tmp_path) == []

    def without(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", without)
    with files.held(tmp_path), files.held(tmp_path):
        pass
