"""Nothing is replaced that keras2gp did not write, and no input of a command is lost."""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from keras2gp.cli import destinations
from keras2gp.cli.commands import fit as fitting
from keras2gp.cli.exit_codes import UsageError
from keras2gp.errors import StoreError
from keras2gp.plots.style import new_figure, save


def listing(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def fit(files, out, *more):
    data = ["--data", files / "data.npz", "--train", 20, "--noise-variance", 0.1]
    return ["fit", files / "tiny.keras", *data, "--out", out, *more]


def refused(run, folder, told, *words):
    before = listing(folder)
    code, out, err = run(*words)
    assert (code, out) == (2, ""), err
    assert told in err
    assert listing(folder) == before


@pytest.fixture
def copy(fitted, tmp_path):
    """A fit of one's own."""
    shutil.copytree(fitted, tmp_path / "fit")
    return tmp_path / "fit"


@pytest.mark.parametrize("where", ["notes.txt", "kernel/notes.txt", "head/x_train.npy.bak", "a/b"])
def test_a_users_file_in_an_earlier_result(where, files, copy, run):
    (copy / where).parent.mkdir(exist_ok=True)
    (copy / where).write_text("mine")
    refused(run, copy, str(copy / where), *fit(files, copy))


def test_a_link_in_an_earlier_result(files, copy, run):
    (copy / "head" / "y.npy").unlink()
    (copy / "head" / "y.npy").symlink_to(files / "data.npz")
    refused(run, copy, "y.npy", *fit(files, copy))


def test_a_kernel_and_an_export_with_a_users_file(files, copy, run, tmp_path):
    (copy / "kernel" / "model.keras").write_bytes((files / "tiny.keras").read_bytes())
    convert = ["convert", files / "tiny.keras", copy / "kernel"]
    refused(run, copy, "model.keras", *convert)
    (copy / "kernel" / "model.keras").unlink()
    assert run(*convert)[0] == 0
    export = ["export", copy, tmp_path / "export"]
    assert run(*export)[0] == run(*export)[0] == 0
    (tmp_path / "export" / "labels.txt").write_text("cat")
    refused(run, tmp_path / "export", "labels.txt", *export)


SOLVERS = (
    ("--regression",),
    ("--solver", "cg"),
    ("--solver", "nystroem", "--rank", 10),
    ("--probabilities", "dirichlet"),
    ("--solver", "tensorflow", "--probabilities", "largest"),
)


@pytest.mark.parametrize("more", SOLVERS, ids=lambda more: more[-1])
def test_every_file_of_a_fit_is_known(more, files, run, tmp_path):
    words = fit(files, tmp_path / "fit", *more)
    if "--regression" in more:
        words[words.index(files / "data.npz")] = files / "real.npz"
    assert run(*words)[0] == 0
    assert run(*words)[0] == 0


def test_inputs_inside_the_output(files, copy, run):
    for name in ("data.npz", "tiny.keras"):
        shutil.copy(files / name, copy.parent / name)
    (copy.parent / "w.yaml").write_text("conv: {weight: 1}")
    folder = copy.parent
    for place in (folder, copy.parent / "." / "fit" / ".."):
        refused(run, folder, "exists and is not a fitted model", *fit(files, place))
    refused(run, folder, "which this command reads", "fit", copy / "kernel", "--data",
            files / "data.npz", "--train", 20, "--out", copy)  # fmt: skip
    store = copy / "K.zarr"  # not there yet: it would be made, and then be in the way
    refused(run, folder, "which this command reads", *fit(files, copy, "--gram", store))
    refused(run, folder, "the store of a kernel matrix",
            *fit(files, folder / "K" / "fit", "--gram", folder / "K"))  # fmt: skip
    same = folder / "K"
    refused(run, folder, f"{same} is what this command reads. Try: another place",
            *fit(files, same, "--gram", same))  # fmt: skip


def test_links_are_no_outputs(files, fitted, copy, run, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "photo.png").write_bytes(b"mine")
    (tmp_path / "nothing").symlink_to(tmp_path / "absent")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "old").symlink_to(copy)
    (tmp_path / "round").symlink_to(tmp_path / "round")
    refused(run, tmp_path, "Try: another name", *fit(files, tmp_path / "round"))
    for name in ("nothing", "link", "old"):
        link = tmp_path / name
        data = ["--data", files / "data.npz"]
        for words in (
            fit(files, link),
            ["convert", files / "tiny.keras", link],
            ["export", fitted, link],
            ["gram", files / "tiny.keras", *data, "--out", link],
            ["search", "paper", *data, "--train", 9, "--samples", 1, "--out", link],
        ):
            refused(run, tmp_path, "is a symbolic link", *words)
    for name, words in {
        "p.csv": ["predict", fitted, "--data", files / "images.npz"],
        "p.png": ["plot", "trials", files / "data.npz"],
        "p.yaml": ["tune", files / "tiny.keras", "--data", files / "data.npz", "--train", 9],
    }.items():
        (tmp_path / name).symlink_to(tmp_path / "photo.png")
        refused(run, tmp_path, "is a symbolic link", *words, "--out", tmp_path / name)
    (tmp_path / "t.yaml").symlink_to(tmp_path / "absent")
    words = ["inspect", files / "tiny.keras", "--template", tmp_path / "t.yaml"]
    refused(run, tmp_path, "is a symbolic link", *words)


def test_a_link_among_the_parents(files, copy, run, tmp_path):
    (tmp_path / "broken").symlink_to(tmp_path / "absent")
    refused(run, tmp_path, "is not a directory", *fit(files, tmp_path / "broken" / "fit"))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert run(*fit(files, tmp_path / "link" / "fit"))[0] == 0
    assert (tmp_path / "real" / "fit" / "fit.json").is_file()


def test_the_working_directory(files, run, tmp_path, monkeypatch):
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    for place in (".", "..", tmp_path / "here"):
        refused(run, tmp_path, "working directory", *fit(files, place))
    refused(run, tmp_path, "it is empty", *fit(files, ""))


def test_a_directory_where_a_disk_is_mounted(monkeypatch, tmp_path):
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda _: True)
    options = argparse.Namespace(out=tmp_path / "disk")
    with pytest.raises(UsageError, match="mounted"):
        destinations.check_directory(options, destinations.FIT)


def test_a_store_is_written_where_there_is_none(files, copy, run, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.tex").write_text("mine")
    gram = ["gram", files / "tiny.keras", "--data", files / "data.npz", "--rows", 9, "--out"]
    refused(run, tmp_path, "is not a store", *gram, tmp_path / "thesis")
    refused(run, tmp_path, "is not a store", *gram, copy)
    refused(run, tmp_path, "is no store", *fit(files, tmp_path / "f", "--gram", copy))
    refused(run, tmp_path, "is not a store", "gram", copy / "kernel", "--data",
            files / "data.npz", "--out", copy / "kernel")  # fmt: skip
    assert run(*gram, copy / "K.zarr")[0] == 0


@pytest.mark.parametrize("text", ["{}", "[]", "", "{", '{"format": 1}', "[" * 100000])
def test_a_file_of_the_same_name_is_no_mark(text, files, fitted, run, tmp_path):
    for name in ("fit.json", "kernel.json", "predictor.json", "search.json"):
        (tmp_path / name).write_text(text)
    data = ["--data", files / "data.npz"]
    for words in (
        fit(files, tmp_path),
        ["convert", files / "tiny.keras", tmp_path],
        ["export", fitted, tmp_path],
        ["search", "paper", *data, "--train", 9, "--samples", 1, "--out", tmp_path],
    ):
        refused(run, tmp_path, "exists and is not", *words)


def test_a_folder_of_a_trial_with_a_users_file(files, run, tmp_path):
    marker = dict.fromkeys(("space", "score", "data_sha256"), "")
    (tmp_path / "search.json").write_text(json.dumps(marker))
    (tmp_path / "trial-0003").mkdir()
    (tmp_path / "trial-0003" / "notes.txt").write_text("mine")
    search = ["search", "paper", "--data", files / "data.npz", "--train", 9, "--samples", 9]
    refused(run, tmp_path, "notes.txt", *search, "--out", tmp_path)


@pytest.mark.parametrize(("text", "ours"), [
    ("row,mean,std\n0,1,2\n", True), ("row,mean,std,observation_std\n", True),
    ("row,mean,std,observation_std,low,high\n0,1,2,3,4,5\n", True),
    ("row,label,variance,p_a,p_b\n", True),
    ('row,label,variance,"p_a,b"\n', True), ("row,mean,std,remark\n", False),
    ("row,label,variance\n", False), ("row,label,variance,p_a,remark\n", False), ("", False),
])  # fmt: skip
def test_tables_of_predictions(text, ours, tmp_path):
    (tmp_path / "p.csv").write_text(text)
    assert destinations.is_predictions(tmp_path / "p.csv") == ours


def test_an_archive_with_more_than_predictions(files, fitted, run, tmp_path):
    names = ("label", "probability", "classes", "mean", "variance", "x")
    np.savez(tmp_path / "p.npz", **dict.fromkeys(names, np.zeros((2, 6, 6, 1))))
    predict = ["predict", fitted, "--data"]
    refused(run, tmp_path, f"{tmp_path / 'p.npz'} is what this command reads",
            *predict, tmp_path / "p.npz", "--out", tmp_path / "p.npz")  # fmt: skip
    refused(run, tmp_path, "holds no predictions",
            *predict, files / "images.npz", "--out", tmp_path / "p.npz")  # fmt: skip


@pytest.mark.parametrize("suffix", [".png", ".svg", ".PNG"])
def test_a_users_picture(suffix, run, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "a.json").write_text("{}")
    photo = tmp_path / f"photo{suffix}"
    photo.write_bytes(b"\x89PNG mine")
    words = ["plot", "learning-curve", tmp_path / "a.json", "--out", photo]
    refused(run, tmp_path, "holds no picture of keras2gp", *words)
    photo.unlink()
    save(new_figure(1, 1), photo)
    assert destinations.is_picture(photo)


def test_damaged_files_are_no_predictions(tmp_path):
    for name, content in {
        "a.npz": b"PK\x05\x06" + bytes(18), "b.npz": b"PK\x03\x04" + bytes(100) + b"PK\x05\x06",
        "a.csv": b'row,label,variance,"p_' + b"x\n" * 200_000, "b.csv": b"\x00\xff", "c.csv": b'"',
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert not destinations.is_predictions(tmp_path / name)


def test_links_in_a_circle(files, run, tmp_path):
    (tmp_path / "a.keras").symlink_to("a.keras")
    (tmp_path / "a.npz").symlink_to("a.npz")
    refused(run, tmp_path, "is a symbolic link", *fit(files, tmp_path / "a.npz"))
    assert run("inspect", tmp_path / "a.keras")[0] == 4
    for data in (tmp_path / "a.npz", "~no-such-user/a.npz"):
        words = ["fit", files / "tiny.keras", "--data", data, "--train", 9, "--out", tmp_path / "f"]
        assert run(*words)[0] == 5


def test_devices_and_pipes_are_no_outputs(fitted, files, run, tmp_path):
    os.mkfifo(tmp_path / "p.csv")
    predict = ["predict", fitted, "--data", files / "images.npz", "--out", tmp_path / "p.csv"]
    code, _, err = run(*predict)
    assert (code, "is no file" in err) == (2, True)


def test_names_that_no_file_can_have(files, run):
    code, _, err = run(*fit(files, "x" * 5000))
    assert code == 2
    assert len(err) < 500


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux's /proc")
def test_a_folder_that_takes_no_files_although_its_rights_allow_them(files, run):
    code, _, err = run(*fit(files, "/proc/fit"))
    assert (code, "/proc is not a directory that can be written to (" in err) == (2, True)


def test_a_disk_that_is_too_small(files, run, tmp_path, monkeypatch):
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=1000))
    code, _, err = run(*fit(files, tmp_path / "fit"))
    assert code == 7
    assert "KiB on the disk of" in err
    assert not list(tmp_path.iterdir())


def test_a_fit_that_cannot_be_written_is_saved_elsewhere(files, run, tmp_path, monkeypatch):
    write = fitting._save

    def full(out, *rest):
        if out.parent != tmp_path / "rescue":
            raise StoreError("no space left")
        write(out, *rest)

    (tmp_path / "rescue").mkdir()
    monkeypatch.setattr(fitting, "_save", full)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "rescue"))
    code, out, err = run(*fit(files, tmp_path / "fit"))
    assert code == 7
    assert "evidence" in out
    (saved,) = (tmp_path / "rescue").iterdir()
    assert f"The fit is saved in {saved} instead" in err
    predict = ["predict", saved, "--data", files / "images.npz", "--out", tmp_path / "p.csv"]
    assert run(*predict)[0] == 0


def test_a_file_that_appears_while_a_fit_is_computed(files, copy, run, monkeypatch):
    write = fitting._save

    def late(out, *rest):
        (copy / "notes.txt").write_text("mine")
        write(out, *rest)

    monkeypatch.setattr(fitting, "_save", late)
    code, _, err = run(*fit(files, copy))
    assert code == 7
    assert (copy / "notes.txt").read_text() == "mine"
    (saved,) = copy.parent.glob("fit-rescued-*")
    assert str(saved) in err
    assert json.loads((saved / "fit.json").read_text())["rows"] == 20


@pytest.mark.parametrize("command", ["inspect --template", "tune", "search", "xray"])
def test_a_full_disk_leaves_no_file_half_written(command, files, run, tmp_path, monkeypatch):
    """Nor the folders that were made for it."""

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    out = tmp_path / "new" / "folders" / "v.yaml"
    data = ["--data", files / "data.npz", "--train", 12, "--out", out]
    words = {
        "inspect --template": ["inspect", files / "tiny.keras", "--template", out],
        "tune": ["tune", files / "tiny.keras", *data, "--steps", 1],
        "search": ["search", "paper", *data, "--samples", 1, "--score", "evidence"],
        "xray": ["xray", files / "tiny.keras", *data, "--subsets", 2],
    }
    monkeypatch.setattr(os, "fsync", full)
    code, _, err = run(*words[command])
    assert code == 7
    assert "cannot be written: No space left" in err
    assert not list(tmp_path.iterdir())


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from keras2gp.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_program_that_cannot_be_kept_is_told_of_as_storage(files, fitted, spawn, tmp_path):
    """The first that XLA compiles is longer than files may be; what the message says helps."""
    words = ["predict", fitted, "--data", files / "images.npz", "--limit", 2]
    words += ["--out", tmp_path / "p.csv"]
    kept = {"KERAS2GP_CACHE": str(tmp_path / "kept")}
    result = spawn("-c", LIMITED, *words, env=kept)
    assert result.returncode == 7, result.stderr
    assert "cannot write a compiled program: " in result.stderr
    assert "Try: KERAS2GP_CACHE=off, or a disk with more room" in result.stderr
    assert "defect" not in result.stderr
    result = spawn("-c", LIMITED, *words, env={"KERAS2GP_CACHE": "off"})
    assert result.returncode == 0, result.stderr
