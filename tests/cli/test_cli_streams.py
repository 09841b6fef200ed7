"""What reaches stdout and stderr of a real process, and of a terminal."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from interruptible import hear_interrupts

from keras2gp._util import progress, progress_bar
from keras2gp._util.text import console_for, printable
from keras2gp.cli.output import Output


def test_a_fit_in_a_process_is_quiet_on_stderr_and_plain_on_stdout(files, spawn, tmp_path):
    """Import, first compilation, saving: TensorFlow has something to say at each."""
    fit = ["fit", files / "tiny.keras", "--data", files / "data.npz", "--train", "20"]
    done = spawn("-m", "keras2gp", *fit, "--out", tmp_path / "fit")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert done.stdout.endswith(f"wrote {tmp_path / 'fit'}\n")


def test_stdout_that_is_closed_early_is_no_error(files, spawn):
    read, write = os.pipe()
    os.close(read)
    try:
        settings = {"stdout": write, "stderr": subprocess.PIPE, "capture_output": False}
        done = spawn("-m", "keras2gp", "inspect", files / "tiny.keras", **settings)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("words", [["inspect", "MODEL"], ["inspect", "MODEL", "--json"], ["--help"],
                                   ["inspect", "absent.keras", "--json"]])  # fmt: skip
def test_a_full_device_is_a_full_disk(words, files, spawn):
    words = [files / "tiny.keras" if word == "MODEL" else word for word in words]
    with Path("/dev/full").open("w") as full:
        settings = {"stdout": full, "stderr": subprocess.PIPE, "capture_output": False}
        done = spawn("-m", "keras2gp", *words, **settings)
    assert done.returncode == (4 if "absent.keras" in words else 7)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_stdout_and_stderr_that_cannot_be_written(files, spawn):
    with Path("/dev/full").open("w") as full:
        settings = {"stdout": full, "stderr": full, "capture_output": False}
        done = spawn("-m", "keras2gp", "inspect", "absent.keras", **settings)
    assert done.returncode == 4


def test_a_full_stderr_is_no_reason_to_fail(files, spawn):
    with Path("/dev/full").open("w") as full:
        settings = {"stdout": subprocess.PIPE, "stderr": full, "capture_output": False}
        done = spawn("-u", "-m", "keras2gp", "inspect", files / "tiny.keras", **settings)
    assert done.returncode == 0
    assert "exact" in done.stdout


def test_interruption_is_quiet(tmp_path):
    """Interrupted while the kernel is computed."""
    command = [sys.executable, "-u", "-m", "keras2gp", "fit", "zoo:convnet", "--data", "sample"]
    with subprocess.Popen(  # noqa: S603
        [*command, "--train", "4000", "--out", tmp_path / "fit"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,  # noqa: PLW1509
    ) as process:
        assert any("4000 rows of sample" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
    assert (process.returncode, err) == (130, "interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupted_command_says_what_goes_on(as_json, files, run, tmp_path, monkeypatch):
    def interrupted(*_arguments, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras2gp.cli.commands.gram.compute", interrupted)
    words = ["gram", files / "tiny.keras", "--data", files / "data.npz", "--rows", "20"]
    more = ["--json"] if as_json else []
    code, out, err = run(*words, "--out", tmp_path / "K.zarr", *more)
    told = f"interrupted: the same command goes on with what {tmp_path / 'K.zarr'} holds"
    assert code == 130
    assert told in " ".join((json.loads(out)["error"]["message"] if as_json else err).split())


DROPS = """
import signal, sys, time
import keras2gp.cli.main as cli

class Dropping:
    def __del__(self):
        raise KeyboardInterrupt

def command(arguments):
    Dropping()
    time.sleep(20)
    return cli.ExitCode.FINE

signal.signal(signal.SIGINT, signal.default_int_handler)
cli._run = command
before = sys.unraisablehook
code = cli.main(["inspect"])
sys.exit(code if sys.unraisablehook is before else 99)
"""


def test_an_interruption_that_python_drops_comes_again(spawn):
    """In a destructor, or a callback of the garbage collector, it is printed and forgotten."""
    done = spawn("-c", DROPS)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_gets_colour_unless_it_does_not_want_it(no_color, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1" if no_color else "")
    main_end, terminal_end = pty.openpty()
    with os.fdopen(terminal_end, "w") as terminal:
        out = Output(json_wanted=False, stream=terminal)
        out.line("a line", style="bold red")
        out.table(("a", "b"), [("1", "2")], styles=["red"])
        terminal.flush()
        text = os.read(main_end, 4096).decode()
    os.close(main_end)
    assert ("\x1b" in text) != no_color
    assert "a line" in text


def test_names_are_no_markup_and_control_characters_are_spelt_out(capsys):
    out = Output(json_wanted=False)
    out.line("[bold]x[/bold] :smile: \x1b[31m \x9b1m")
    assert capsys.readouterr().out == "[bold]x[/bold] :smile: \\x1b[31m \\x9b1m\n"
    assert printable("two\nlines") == "two\nlines"
    out.table(("a",), [("two\nlines\r\u2028",), ("x" * 5000,)])
    text = capsys.readouterr().out
    assert "two\\nlines\\r\\u2028" in text
    assert "[4600" in text
    assert len(text) < 3000


def test_numbers_of_numpy_and_other_objects_in_json(capsys):
    Output(json_wanted=True).document({"a": np.float32(0.5), "b": [np.int64(3)], "c": len})
    document = json.loads(capsys.readouterr().out)
    assert (document["a"], document["b"]) == (0.5, [3])
    assert "len" in document["c"]


def test_long_lines_are_not_broken_in_a_pipe_but_tables_are(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    out = Output(json_wanted=False)
    out.line("word " * 100)
    out.table(("path", "empty"), [("x" * 150, "")])
    text = capsys.readouterr().out
    assert text.count("\n") == 5
    assert text.endswith(f"\n{'x' * 80}\n{'x' * 70}\n")
    assert "empty" not in text


def test_json_has_no_nan(capsys):
    out = Output(json_wanted=True)
    out.line("not shown")
    out.table(("a",), [("b",)])
    out.document({"a": float("nan"), "b": [1.0, float("inf")], "c": {"d": (1, None)}})
    assert json.loads(capsys.readouterr().out) == {
        "a": None,
        "b": [1.0, None],
        "c": {"d": [1, None]},
    }


def test_no_progress_where_nobody_looks(capsys, monkeypatch):
    monkeypatch.setattr(progress_bar, "_PATIENCE", 0.0)
    with progress.stage("working") as advance:
        advance(1, 2)
        time.sleep(0.2)
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_comes_late_and_goes(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    main_end, terminal_end = pty.openpty()
    with os.fdopen(terminal_end, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert console_for(terminal).is_terminal
        with progress.stage("quick"):
            pass
        monkeypatch.setattr(progress_bar, "_PATIENCE", 0.05)
        with progress.stage("slow") as advance:
            advance(1, 4)
            time.sleep(0.4)
        monkeypatch.undo()
    parts = []
    with contextlib.suppress(OSError):  # how a terminal that is closed ends
        while part := os.read(main_end, 65536):
            parts.append(part)
    text = b"".join(parts).decode()
    os.close(main_end)
    assert "quick" not in text
    assert "slow" in text
    assert "25%" in text
    assert text.endswith("\x1b[2K")


@pytest.mark.parametrize("end", ["", "; sys.stderr = None; os.close(2)"], ids=["open", "closed"])
def test_python_hears_nothing_of_tensorflow(spawn, end):
    """After keras2gp, whoever imports TensorFlow; a process without stderr goes on."""
    code = f"""
import os, sys
import keras2gp{end}
import keras
layers = [keras.layers.Dense(4, "relu"), keras.layers.Dense(1)]
kernel = keras2gp.convert(keras.Sequential([keras.Input((3,)), *layers]))
print(kernel.matrix([[1.0, 2.0, 3.0]]).shape)
"""
    done = spawn("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 1)\n"
    assert done.stderr == ""
