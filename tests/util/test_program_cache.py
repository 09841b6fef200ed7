"""The folder of compiled programs: whose it is, what is in it, and what is never handed on."""

import hashlib
import hmac
import os
import shutil
import stat
from collections import namedtuple
from pathlib import Path

import pytest

from keras2gp._util import program_cache
from keras2gp._util.program_cache import ProgramCache, user_folder

PROGRAM = b"a program" * 100


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS2GP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "keras2gp" / "programs"


@pytest.fixture
def opened():
    """Caches as processes open them, closed in the end."""
    caches = []

    def opener(compiler="compiler"):
        cache = ProgramCache.open(compiler)
        assert cache is not None
        cache.share()
        caches.append(cache)
        return cache

    yield opener
    for cache in caches:
        cache.close()


def stored(root):
    return sorted(path.name for path in root.glob("*/*.pb"))


def seen(cache):
    return {path.name: path.read_bytes() for path in cache.directory.glob("*.pb")}


def filled(opened, **programs):
    """A process that compiled programs, and has ended."""
    cache = opened()
    for name, content in programs.items():
        (cache.directory / f"{name}.pb").write_bytes(content)
    cache.close()
    return cache


def test_the_next_process_sees_the_programs(root, opened):
    ended = filled(opened, a=PROGRAM, b=b"another")
    assert not ended.directory.exists()
    assert seen(opened()) == {"a.pb": PROGRAM, "b.pb": b"another"}
    key = (root / "key").read_bytes()
    assert {name.partition(".")[0] for name in stored(root)} == {
        hmac.digest(key, content, "sha256").hex() for content in (PROGRAM + b"a.pb", b"anotherb.pb")
    }


def test_a_program_of_another_compiler_is_not_seen(root, opened):
    filled(opened, a=PROGRAM)
    assert not seen(opened("another"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(PROGRAM[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(PROGRAM[:50] + b"X" + PROGRAM[51:]),
        lambda path: path.rename(path.with_name(f"{'0' * 64}.a.pb")),
        lambda path: (path.unlink(), path.symlink_to("/etc/hostname")),
        lambda path: path.rename(path.with_name(path.name.replace(".a.", ".b."))),
        lambda path: path.rename(
            path.with_name(f"{hashlib.sha256(PROGRAM + b'a.pb').hexdigest()}.a.pb")
        ),
    ],
    ids=["truncated", "empty", "changed", "renamed", "link", "another's name", "without the key"],
)
def test_a_damaged_program_is_removed(root, opened, damage):
    filled(opened, a=PROGRAM)
    damage(next(root.glob("*/*.pb")))
    assert not seen(opened())
    assert not stored(root)


def test_a_program_of_another_place_is_removed(root, opened, tmp_path, monkeypatch):
    filled(opened, a=PROGRAM)
    (program,) = root.glob("*/*.pb")
    monkeypatch.setenv("KERAS2GP_CACHE", str(tmp_path / "other"))
    filled(opened, b=PROGRAM)
    elsewhere = tmp_path / "other" / "keras2gp" / "programs" / "compiler"
    shutil.copy2(program, elsewhere)
    assert list(seen(opened())) == ["b.pb"]
    assert not (elsewhere / program.name).exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda key: key.write_bytes(b""),
        lambda key: key.write_bytes(b"x" * 33),
        lambda key: key.unlink(),
        lambda key: (key.unlink(), key.symlink_to("/etc/hostname")),
        lambda key: (key.unlink(), os.mkfifo(key)),
    ],
    ids=["empty", "longer", "none", "link", "pipe"],
)
@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_damaged_key_is_made_again(root, opened, damage, links, monkeypatch):
    filled(opened, a=PROGRAM)
    damage(root / "key")
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    assert not seen(opened())
    assert not stored(root)
    assert stat.S_IMODE((root / "key").lstat().st_mode) == 0o600
    filled(opened, b=PROGRAM)
    assert seen(opened()) == {"b.pb": PROGRAM}
    assert sorted(path.name for path in root.iterdir()) == ["compiler", "key"]


def test_a_folder_in_the_place_of_the_key(root):
    (root / "key").mkdir(parents=True)
    assert ProgramCache.open("compiler") is None


def test_an_error_of_a_file_that_was_read_is_no_full_disk(root, opened):
    filled(opened, a=PROGRAM)
    cache = opened()
    read, written = (OSError(f"{cache.directory}/{name}") for name in ("a.pb", "b.pb"))
    assert not cache.is_behind(read)
    assert cache.is_behind(written)
    cache.clear()  # now the process writes its own
    assert cache.is_behind(read)


def test_only_the_user_can_look_into_it(root, opened):
    cache = opened()
    for folder in (root, root / "compiler", cache.directory):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
@pytest.mark.parametrize("part", ["", "compiler"])
def test_a_folder_that_others_can_write_to_is_refused(root, part, mode):
    folder = root / part
    folder.mkdir(parents=True, mode=0o700)
    folder.chmod(mode)
    with pytest.warns(RuntimeWarning, match="can be written to by others.*KERAS2GP_CACHE=off"):
        assert ProgramCache.open("compiler") is None


def test_a_folder_in_one_that_all_can_write_to_is_refused(root):
    root.parent.mkdir(parents=True)
    root.parent.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="can be written to by others"):
        assert ProgramCache.open("compiler") is None
    root.parent.chmod(0o1777)  # where only the owner of a file can move it, as in /tmp
    cache = ProgramCache.open("compiler")
    assert cache is not None
    cache.close()


def test_a_folder_of_another_user_is_refused(root, opened, monkeypatch):
    filled(opened, a=PROGRAM)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert ProgramCache.open("compiler") is None


def test_nothing_is_made_in_the_folder_of_another_user(root, monkeypatch):
    root.mkdir(mode=0o755, parents=True)
    monkeypatch.setenv("KERAS2GP_CACHE", str(root / "new"))
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert ProgramCache.open("compiler") is None
    assert not list(root.iterdir())


def test_a_home_that_cannot_be_written_to_is_no_fault(root, monkeypatch, recwarn):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert ProgramCache.open("compiler") is None
    assert not recwarn.list


def test_a_program_of_another_user_is_not_seen(root, opened, monkeypatch):
    filled(opened, a=PROGRAM)
    monkeypatch.setattr(program_cache, "_is_own_file", lambda path: False)
    assert not seen(opened())


def test_the_oldest_programs_are_removed(root, opened, monkeypatch):
    monkeypatch.setattr(program_cache, "LIMIT", 8 * len(PROGRAM))
    for number in range(12):
        filled(opened, **{f"p{number}": PROGRAM + bytes([number])})
        newest = max(root.glob("*/*.pb"), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (number, number))
    assert sorted(name.split(".")[1] for name in stored(root)) == sorted(
        f"p{number}" for number in range(12 - len(stored(root)), 12)
    )
    assert len(stored(root)) == 7


def test_a_program_that_would_fill_it_is_left_out(root, opened, monkeypatch):
    monkeypatch.setattr(program_cache, "LIMIT", 3 * len(PROGRAM))
    filled(opened, large=PROGRAM, small=b"small")
    assert [name.split(".")[1] for name in stored(root)] == ["small"]


def test_a_long_process_keeps_to_the_limit(root, opened, monkeypatch):
    monkeypatch.setattr(program_cache, "LIMIT", 5 * len(PROGRAM))
    cache = opened()
    for number in range(9):
        path = cache.directory / f"p{number}.pb"
        path.write_bytes(PROGRAM)
        if number < 8:
            os.utime(path, (number, number))
    cache.bound()
    assert list(seen(cache)) == ["p8.pb"]  # a new one may be read at this moment


@pytest.mark.parametrize("moment", [1, 4_102_444_800], ids=["1970", "2100"])
def test_what_a_killed_process_left_is_removed(moment, root, opened):
    first, killed = opened(), opened()
    (killed.directory / "half.pb.tmp").write_bytes(b"half")
    os.close(killed._lock)
    killed._lock = -1
    for folder in (first.directory, killed.directory):
        os.utime(folder, (moment, moment))
    opened()
    assert first.directory.exists()
    assert not killed.directory.exists()


def test_two_processes_that_compile_the_same(root, opened):
    first, second = opened(), opened()
    for cache in (first, second):
        (cache.directory / "a.pb").write_bytes(PROGRAM)
    (second.directory / "b.pb").write_bytes(PROGRAM)
    first.close()
    second.close()
    assert seen(opened()) == {"a.pb": PROGRAM, "b.pb": PROGRAM}


def test_two_programs_of_one_name(root, opened):
    """Two processes may compile the same to other bytes: either is whole."""
    first, second = opened(), opened()
    (first.directory / "a.pb").write_bytes(PROGRAM)
    (second.directory / "a.pb").write_bytes(PROGRAM + b"!")
    first.close()
    second.close()
    assert seen(opened())["a.pb"] in (PROGRAM, PROGRAM + b"!")
    assert len(stored(root)) == 1


def test_nothing_is_shared_before_it_is_asked_for(root, opened):
    filled(opened, a=PROGRAM)
    cache = ProgramCache.open("compiler")
    assert not cache.used
    (cache.directory / "early.pb").write_bytes(PROGRAM)
    assert cache.used
    cache.close()
    assert len(stored(root)) == 1
    cache = ProgramCache.open("compiler")
    (cache.directory / "early.pb").write_bytes(PROGRAM)
    cache.share()
    assert list(seen(cache)) == ["a.pb"]
    cache.close()


def test_a_fork_publishes_nothing(root, opened, monkeypatch):
    cache = opened()
    (cache.directory / "a.pb").write_bytes(PROGRAM)
    with monkeypatch.context() as fork:
        fork.setattr(os, "getpid", lambda: -1)
        cache.close()
    assert not stored(root)
    assert cache.directory.exists()


def refuse(*_names):
    raise OSError


def test_without_links(root, opened, monkeypatch):
    monkeypatch.setattr(os, "link", refuse)
    filled(opened, a=PROGRAM)
    assert seen(opened()) == {"a.pb": PROGRAM}


def test_a_full_disk_keeps_nothing(root, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6))
    assert ProgramCache.open("compiler") is None


def test_a_file_in_its_place(root):
    root.parent.mkdir(parents=True)
    root.write_text("a file")
    assert ProgramCache.open("compiler") is None


@pytest.mark.parametrize("value", ["off", "OFF", "0", "no"])
def test_switched_off(monkeypatch, value):
    monkeypatch.setenv("KERAS2GP_CACHE", value)
    assert user_folder() is None
    assert ProgramCache.open("compiler") is None


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("KERAS2GP_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_folder() == tmp_path / "xdg" / "keras2gp" / "programs"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert user_folder() == tmp_path / ".cache" / "keras2gp" / "programs"
    monkeypatch.setattr("sys.platform", "darwin")
    assert user_folder() == tmp_path / "Library" / "Caches" / "keras2gp" / "programs"
    monkeypatch.setenv("KERAS2GP_CACHE", "~/elsewhere")
    assert user_folder() == Path(tmp_path / "elsewhere" / "keras2gp" / "programs")


def test_a_folder_of_the_user_s_own_files_keeps_them(tmp_path, opened, monkeypatch):
    """Runs and models in the stated folder look like what the cache sweeps and bounds."""
    monkeypatch.setenv("KERAS2GP_CACHE", str(tmp_path))
    monkeypatch.setattr(program_cache, "LIMIT", 2 * len(PROGRAM))
    files = [tmp_path / "models" / f"{'a' * 64}.b.pb", tmp_path / "models" / "run-1" / "lock"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(3 * PROGRAM)
        os.utime(file.parent, (0, 0))
    (tmp_path / "empty").mkdir()
    filled(opened, a=PROGRAM, b=PROGRAM, c=PROGRAM)
    filled(opened, d=PROGRAM)
    assert all(file.read_bytes() == 3 * PROGRAM for file in files)
    assert (tmp_path / "empty").is_dir()
