"""Available memory: the machine's, a container's limit, the limits of the process."""

import resource
import subprocess
import sys

import pytest

from keras2gp._util import memory
from keras2gp.errors import InputError, StoreError

MIB = 2**20
NO_LIMIT = str(2**63 - 4096)


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Write files of /proc and /sys/fs/cgroup below a temporary directory."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="ascii")

    monkeypatch.setattr(memory, "_PROC", f"{tmp_path}/proc")
    monkeypatch.setattr(memory, "_GROUPS", f"{tmp_path}/group")
    write(proc__meminfo="MemTotal: 9 kB\nMemAvailable: 8192000 kB\n")
    return write


def group(root, limit, use, inactive, version=2):
    names = memory._GROUP_FILES[version]
    texts = (str(limit), str(use), f"anon 5\n{names[2]} {inactive}\nactive_file 7\n")
    files = dict(zip((names[0], names[1], "memory.stat"), texts, strict=True))
    return {f"{root}__{name}": text for name, text in files.items()}


def test_this_machine_has_some():
    assert memory.available_memory() > MIB


def test_the_machine(system):
    assert memory.available_memory() == 8192000 * 1024


def test_a_machine_that_does_not_say(system, tmp_path, monkeypatch):
    (tmp_path / "proc/meminfo").unlink()
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.available_memory() is None
    memory.require_memory(2**80, "anything", "nothing")


def test_version_2_counts_inactive_files_as_free(system):
    system(proc__self__cgroup="0::/\n", **group("group", 512 * MIB, 500 * MIB, 2 * MIB))
    assert memory.available_memory() == 14 * MIB


def test_version_2_takes_the_tightest_group_above(system):
    system(
        proc__self__cgroup="0::/a/b\n",
        **group("group__a__b", "max", 10 * MIB, 0),
        **group("group__a", 100 * MIB, 60 * MIB, 0),
        **group("group", 900 * MIB, 60 * MIB, 0),
    )
    assert memory.available_memory() == 40 * MIB


def test_version_1(system):
    system(
        proc__self__cgroup="5:cpu:/x\n4:memory,misc:/docker/y\n0::/\n",
        **group("group__memory", NO_LIMIT, 500 * MIB, 0, version=1),
        **group("group__memory__docker__y", 512 * MIB, 500 * MIB, MIB, version=1),
    )
    assert memory.available_memory() == 13 * MIB


@pytest.mark.parametrize("text", ["0::/../other\n", "nonsense\n", ""])
def test_a_path_that_the_container_does_not_see(system, text):
    system(proc__self__cgroup=text, **group("group", 512 * MIB, 500 * MIB, 0))
    assert memory.available_memory() == 12 * MIB


def test_more_use_than_the_limit_is_nothing_left(system):
    system(**group("group", 10 * MIB, 20 * MIB, 0))
    assert memory.available_memory() == 0


def test_the_limit_of_the_process(system, monkeypatch):
    system(proc__self__status="Name:\tpython\nVmSize:\t  51200 kB\nVmData:\t 1024 kB\n")
    limits = {resource.RLIMIT_AS: 150 * MIB, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits[which],) * 2)
    assert memory.available_memory() == 100 * MIB
    limits[resource.RLIMIT_DATA] = 3 * MIB
    assert memory.available_memory() == 2 * MIB


def test_a_real_limit_of_the_process():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31));"
        "from keras2gp._util.memory import available_memory; print(available_memory())"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 0 < int(done.stdout) < 2**31


def test_what_does_not_fit_is_refused_with_both_figures(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2**34)
    memory.require_memory(2**34, "it", "less")
    expected = r"it needs 32\.0 GiB of memory and 16\.0 GiB is available\. Try: less"
    with pytest.raises(InputError, match=expected):
        memory.require_memory(2**35, "it", "less")
    with pytest.raises(StoreError, match=expected):
        memory.require_memory(2**35, "it", "less", StoreError)


def test_a_few_bytes_are_not_compared(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    memory.require_memory(memory.NEGLIGIBLE, "it", "less")
    with pytest.raises(InputError, match="needs"):
        memory.require_memory(memory.NEGLIGIBLE + 1, "it", "less")


def test_the_disk_is_compared(tmp_path, monkeypatch):
    usage = memory.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda _: usage._replace(free=2048))
    memory.require_disk(tmp_path / "not" / "there", 2048, "it")
    with pytest.raises(StoreError, match=r"it needs 3\.0 KiB on the disk of .*, and 2\.0 KiB is"):
        memory.require_disk(tmp_path, 3072, "it")
