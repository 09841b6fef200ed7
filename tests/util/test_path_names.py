"""Paths, and files that are read without waiting."""

import os

import pytest

from keras2gp._util.paths import missing, read_if_regular


def test_reading_regular_files_only(tmp_path):
    path = tmp_path / "f"
    assert read_if_regular(path) is None
    assert read_if_regular(path / "below") is None
    path.write_bytes(b"abc")
    assert read_if_regular(path) == b"abc"
    assert read_if_regular(path / "below") is None
    assert read_if_regular(path, largest=3) == b"abc"
    with pytest.raises(OSError, match="larger than 2 bytes"):
        read_if_regular(path, largest=2)
    assert read_if_regular(tmp_path) is None
    os.mkfifo(tmp_path / "pipe")
    assert read_if_regular(tmp_path / "pipe") is None
    (tmp_path / "link").symlink_to(path)
    assert read_if_regular(tmp_path / "link") == b"abc"


def test_a_path_where_nothing_is(tmp_path):
    (tmp_path / "digits.npz").write_text("")
    near = missing(tmp_path / "digit.npz")
    assert near == f"{tmp_path / 'digit.npz'}: no such file. Did you mean digits.npz?"
    assert missing(tmp_path / "x").endswith("x: no such file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name, what in (
        ("pipe", "is a pipe, a socket or a device; expected a file or a folder"),
        ("link", "is a link that leads nowhere; expected a file or a folder"),
        (".", "is a folder; expected a file or a folder"),
    ):
        assert missing(tmp_path / name, "no such file or folder").endswith(what)
    assert missing(tmp_path / "a" / "b", "no such directory").endswith("no such directory")
