"""Digests: equal after a round trip, different after any change; files of 0.1 need none."""

import json

import pytest

from keras2gp._util.digest import check_digest, digest_of, file_digest, with_digest
from keras2gp.errors import ModelFileError, StoreError

DATA = {
    "numbers": [1, 0.1, 1e-300, -0.0, 1e22, True, None],
    "shape": (2, 3),
    "text": "ä\ud800\n",
    "nested": {3: "three", "10": {"a": []}},
}


def read_again(data):
    return json.loads(json.dumps(data, indent=1))


def test_a_round_trip_keeps_the_digest():
    data = with_digest(DATA)
    check_digest(read_again(data), "file")
    check_digest(dict(reversed(read_again(data).items())), "file")
    assert data["shape"] == (2, 3)
    assert with_digest(data) == data


CHANGES = {
    "a number": lambda d: d["numbers"].__setitem__(1, 0.1 + 2**-56),
    "the sign of zero": lambda d: d["numbers"].__setitem__(3, 0.0),
    "an integer for a float": lambda d: d["numbers"].__setitem__(4, 10**22),
    "a flag": lambda d: d["numbers"].__setitem__(5, 1),
    "the order": lambda d: d["shape"].reverse(),
    "a key": lambda d: d["nested"].update(more=1),
    "the version": lambda d: d.update(keras2gp="0.1.0"),
    "the digest": lambda d: d.update(digest="sha256:0"),
    "no digest": lambda d: d.pop("digest"),
    "another type of digest": lambda d: d.update(digest=None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_refused(name):
    data = read_again(with_digest(DATA))
    CHANGES[name](data)
    with pytest.raises(ModelFileError, match="file: its content is not what"):
        check_digest(data, "file")
    with pytest.raises(StoreError):
        check_digest(data, "file", StoreError)


@pytest.mark.parametrize("version", [{}, {"keras2gp": "0.1.0"}, {"keras2gp": "0.1.9"}])
def test_old_objects_need_no_digest(version):
    check_digest({"a": 1, **version}, "file")


@pytest.mark.parametrize("version", ["0.2.0", "0.10.0", "1.0", None, 0.1])
def test_newer_objects_need_one(version):
    with pytest.raises(ModelFileError):
        check_digest({"a": 1, "keras2gp": version}, "file")


def test_files(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"abd")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "a") == f"sha256:{expected}"
    assert file_digest(tmp_path / "b") != file_digest(tmp_path / "a")
    assert file_digest(tmp_path) is None
    assert file_digest(tmp_path / "c") is None
    assert digest_of({}) != digest_of({"a": None})
