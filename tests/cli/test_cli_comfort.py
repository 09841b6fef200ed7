"""What was meant, completion scripts, and files of options."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from keras2gp._util.text import did_you_mean
from keras2gp.cli.argument_parser import IN_PLACE
from keras2gp.cli.completion import SHELLS, completion_script
from keras2gp.cli.configuration import with_configuration
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.parser import build_parser
from keras2gp.data import load
from keras2gp.errors import DataError, InputError
from keras2gp.gp.solvers.choice import check_solver


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["fti"], "Did you mean fit?"),
        (["plot", "reliabilty"], "Did you mean reliability?"),
        (
            ["fit", "m.keras", "--trian", "9", "--data", "sample", "--out", "o"],
            "--train by --trian?",
        ),
        (["fit", "m.keras", "--trian=9", "--data", "sample", "--out", "o"], "train by --trian?"),
        (["export", "fit", "out", "--no-varance"], "Did you mean --no-variance?"),
        (["demo", "--solver", "choleski"], "Did you mean cholesky?"),
        (["inspect", "zoo:convnett"], "Did you mean zoo:convnet?"),
        (["predict", "fit", "--data", "sample", "--out", "p.csv", "--kep"], "Did you mean --keep?"),
        (["inspect", "m.keras", "--max", "average"], "Did you mean --max-pooling?"),
        (
            ["gram", "m.keras", "--data", "sample", "--out", "K", "--train", "9"],
            "keras2gp gram takes --rows in the place of --train.",
        ),
        (["evaluate", "f", "--data", "sample", "--rows=9"], "takes --test in the place of --rows."),
        (
            ["predict", "f", "--data", "sample", "--out", "p.csv", "--test", "9"],
            "takes --limit in the place of --test.",
        ),
        (
            ["plot", "kernel", "m.keras", "--data", "sample", "--out", "k.png", "--train", "9"],
            "keras2gp plot kernel takes --rows in the place of --train.",
        ),
        (["convert", "m.keras", "--out", "K"], "keras2gp convert takes OUT without --out."),
    ],
)
def test_what_was_meant(words, meant, run):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert meant in err
    command = f"keras2gp {words[0]}" if words[0] != "fti" else "keras2gp"
    assert f"Try: {command}" in err


@pytest.mark.parametrize(
    ("command", "unknown"),
    [("gram", "--tran"), ("inspect", "--train"), ("verify", "--out"), ("inspect", "--out")],
)
def test_no_guess_is_made_that_is_not_close(command, unknown, run):
    """--train and --tolerance, or --out and --output, share dashes and few letters."""
    words = ["m.keras", "--data", "sample", "--out", "K"] if command == "gram" else ["m.keras"]
    code, _, err = run(command, *words, unknown, "9")
    assert code == 2
    assert f"unrecognized arguments: {unknown}" in err
    assert "Did you mean" not in err
    assert "in the place of" not in err


def test_options_in_the_place_of_others_exist():
    def options(parser):
        for command in parser.commands().values():
            yield from options(command)
        yield from (option.name for option in parser.options())

    known = set(options(build_parser()))
    assert {*IN_PLACE, *(other for others in IN_PLACE.values() for other in others)} <= known


def test_the_data_and_the_solver_that_were_meant(run, tmp_path, files):
    words = ["--data", "sampel", "--train", "9", "--out", tmp_path / "o"]
    assert "Did you mean sample?" in run("fit", files / "tiny.keras", *words)[2]
    words = ["--data", "mnist", "--train", 9, "--out", tmp_path / "o"]
    assert "Did you mean tfds:mnist?" in run("fit", files / "tiny.keras", *words)[2]
    with pytest.raises(DataError, match=r"Did you mean tfds:mnist\?"):
        load("mnist")
    with pytest.raises(InputError, match=r"settings\. Did you mean nystroem\?"):
        check_solver("nystrom")
    assert did_you_mean("x", ["cholesky"]) == ""
    assert did_you_mean(3, []) == ""


def test_help_fits_80_columns(monkeypatch):
    def commands(parser):
        yield parser
        for command in parser.commands().values():
            yield from commands(command)

    monkeypatch.setenv("COLUMNS", "80")
    texts = [command.format_help() for command in commands(build_parser())]
    assert len(texts) > 12
    assert not [line for text in texts for line in text.splitlines() if len(line) > 80]


def test_every_sentence_of_an_error_ends(run):
    for words in (["fit"], ["inspect", "none.keras"], ["frobnicate"], ["plot"]):
        err = run(*words)[2]
        assert err.splitlines()[0].endswith((".", "?"))


def everything():
    """Every command, its options and their choices."""
    found = []

    def walk(parser, names):
        for name, command in parser.commands().items():
            walk(command, [*names, name])
        found.append((names, parser))

    walk(build_parser(), [])
    return found


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_knows_every_option(shell, run, run_json):
    script = completion_script(shell, build_parser())
    assert run("completion", shell)[1] == script
    assert run_json("completion", shell)[1] == {"shell": shell, "script": script}
    for names, parser in everything():
        for word in [*names, *(n for option in parser.options() for n in option.names)]:
            assert (
                f"-l {word.lstrip('-')}" if shell == "fish" and word[0] == "-" else word
            ) in script
        for option in parser.options():
            if option.names:
                assert not option.choices or " ".join(option.choices) in script
    if shutil.which(shell):
        checked = subprocess.run(  # noqa: S603 (a shell of this machine, our own script)
            [shutil.which(shell), "-n"], input=script, capture_output=True, text=True, check=False
        )
        assert checked.stderr == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["ev"], {"evaluate"}),
        (["fit", "--tr"], {"--train", "--trained-until"}),
        (["fit", "m", "--solver", "c"], {"cholesky", "cg"}),
        (["plot", "re"], {"reliability"}),
        (["plot", "trials", "--sco"], {"--score"}),
        (["plot", "trials", "--score", "e"], {"evidence"}),
        (["completion", "--js"], {"--json"}),
        (["completion", "f"], {"fish"}),
    ],
)
def test_bash_completes(line, expected):
    words = " ".join(f"'{word}'" for word in ["keras2gp", *line])
    script = completion_script("bash", build_parser())
    script += f"COMP_WORDS=({words}); COMP_CWORD={len(line)}; _keras2gp; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(  # noqa: S603 (our own script)
        [shutil.which("bash"), "-c", script], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == expected


def completed(shell, script):
    """What a shell prints that runs a script."""
    done = subprocess.run(  # noqa: S603 (a shell of this machine, our own script)
        [shutil.which(shell), *(["-f"] if shell == "zsh" else ["-N"]), "-c", script],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_zsh_finds_the_script_in_a_directory_of_functions(tmp_path):
    """It reads the first line alone, and the first call of the function is a completion too."""
    script = completion_script("zsh", build_parser())
    assert script.startswith("#compdef keras2gp\n")
    if shutil.which("zsh"):
        (tmp_path / "_keras2gp").write_text(script)
        there = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -D; "
        assert completed("zsh", there + "print $_comps[keras2gp]") == ["_keras2gp"]
        called = "compadd() { shift; print $@; }; words=(keras2gp plot ''); CURRENT=3; _keras2gp"
        assert "kernel" in completed("zsh", f"{there}_files() {{ : }}; {called}")


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
@pytest.mark.parametrize(
    ("line", "expected"),
    [("completion ", {"bash", "zsh", "fish"}), ("plot ker", {"kernel"}), ("ev", {"evaluate"})],
)
def test_fish_completes(line, expected):
    script = completion_script("fish", build_parser())
    assert set(completed("fish", f"{script}\ncomplete -C 'keras2gp {line}'")) == expected


CONFIG = """
data = "d.npz"
[fit]
model = "m.keras"
train = 20
noise_variance = 0.1
shuffle = true
regression = false
input-shape = ["a=3", "b=4"]
[gram]
resume = false
[plot.kernel]
rows = 7
[verify]
widths = [8, 16]
"""


def words_of(tmp_path, *words, text=CONFIG):
    (tmp_path / "run.toml").write_text(text)
    words = [word.replace("FILE", str(tmp_path / "run.toml")) for word in words]
    return with_configuration(words, build_parser())


def test_options_from_a_file(tmp_path):
    fit = words_of(tmp_path, "fit", "--config", "FILE", "--out", "o", "--train", "30")
    options = build_parser().parse_args(fit)
    assert (options.model, options.data, options.train) == ("m.keras", "d.npz", 30)
    assert (options.noise_variance, options.shuffle, options.regression) == (0.1, 0, False)
    assert options.input_shape == [("a", (3,)), ("b", (4,))]
    fit = words_of(tmp_path, "fit", "other.keras", "--out", "o", "--config=FILE")
    assert build_parser().parse_args(fit).model == "other.keras"
    gram = words_of(tmp_path, "gram", "k", "--out", "o", "--config", "FILE")
    assert build_parser().parse_args(gram).resume is False
    kernel = words_of(tmp_path, "plot", "kernel", "k", "--out", "o.png", "--config", "FILE")
    assert build_parser().parse_args(kernel).rows == 7
    verify = words_of(tmp_path, "verify", "m", "--config", "FILE")
    assert build_parser().parse_args(verify).widths == (8, 16)
    assert words_of(tmp_path, "inspect", "m") == ["inspect", "m"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[fti]\nx = 1", r"\[fti\] is no command\. Did you mean fit\?"),
        ("[fit]\ntrian = 1", r"\[fit\] has no option trian\. Did you mean train\?"),
        ("dta = 1", r"dta is an option of no command\. Did you mean data\?"),
        ("[fit]\njson = true", "has no option json"),
        ("[fit]\ntrain = true", "train takes a value, and is true"),
        ("[fit]\nregression = 'yes'", "regression is true or false"),
        ("[fit]\ntrain = 1979-05-27", "expected text or a number"),
        ("[fit\n", "cannot be read as TOML"),
        ("fit = 3", r"fit is 3: expected a table \[fit\]"),
        ("[[fit]]\ntrain = 3", r"fit is \[.*\]: expected a table \[fit\]"),
        ("[fit]\nout = ['a', 'b']", "out is a list: expected one path"),
        ("[gram]\ntrain = 1", r"\[gram\] takes rows in the place of train\."),
        ("[evaluate]\ntets = 1", r"\[evaluate\] has no option tets\. Did you mean test\?"),
        ("[gram.own]\nx = 1", r"\[gram\] has no option own"),
        ("[plot.kernl]\nrows = 7", r"\[plot\] has no command kernl\. Did you mean kernel\?"),
        ("[plot]\nrows = 7", r"\[plot\] has no command rows"),
        ("[plot.kernel]\nrow = 7", r"\[plot\.kernel\] has no option row\. Did you mean rows\?"),
        ("[plot]\nkernel = 7", r"kernel is 7: expected a table \[plot\.kernel\]"),
        ("a" * 2**21, "larger than 1.0 MiB"),
    ],
)
def test_files_of_options_that_are_refused(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        words_of(tmp_path, "fit", "--config", "FILE", text=text)
    with pytest.raises(UsageError, match="no such file"):
        with_configuration(["fit", "--config", "none.toml"], build_parser())
    with pytest.raises(UsageError, match="expected a"):
        with_configuration(["fit", "--config"], build_parser())


def test_a_run_with_a_file(files, run, tmp_path):
    text = f'[inspect]\nmodel = "{files / "tiny.keras"}"\nprior = "weights"\n'
    (tmp_path / "run.toml").write_text(text)
    code, out, _ = run("inspect", "--config", tmp_path / "run.toml")
    assert code == 0
    assert "prior from weights" in out
