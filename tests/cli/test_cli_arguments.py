"""Wrong arguments: answered before anything heavy is imported, and with nothing written."""

import argparse
import json
import zipfile

import pytest

import keras2gp
from keras2gp import __version__
from keras2gp.cli import arguments, option_values, rows
from keras2gp.cli.exit_codes import MEANINGS
from keras2gp.cli.parser import build_parser
from keras2gp.errors import ModelFileError

HEAVY = ("tensorflow", "keras", "sklearn", "scipy", "tensorflow_datasets", "numpy", "rich")


def command_names():
    return (
        "inspect", "convert", "verify", "gram", "fit", "evaluate", "predict", "export",
        "search", "tune", "xray", "plot", "demo", "completion",
    )  # fmt: skip


def test_version_and_help(run):
    assert run("--version")[:2] == (0, f"keras2gp {__version__}\n")
    code, out, _ = run("--help")
    assert code == 0
    for text in (*command_names(), *MEANINGS.values()):
        assert text in " ".join(out.split())


KINDS = ("learning-curve", "convergence", "trials", "reliability", "images", "kernel")


@pytest.mark.parametrize(
    "command",
    [*((name,) for name in command_names() if name != "plot"), *(("plot", k) for k in KINDS)],
)
def test_every_command_has_help_and_json(command, run):
    code, out, err = run(*command, "--help")
    assert code == 0
    assert "--json" in out
    assert not err


def test_nothing_heavy_is_imported_before_the_arguments_are_checked(spawn, tmp_path):
    """One process for all: nothing may be imported by any of them."""
    (tmp_path / "model.keras").touch()
    (tmp_path / "data.npz").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    fit = ["fit", "model.keras", "--data", "data.npz", "--train", "9", "--out"]
    lines = [
        (0, ["--version"]),
        (0, ["--help"]),
        (0, ["fit", "--help"]),
        (2, []),
        (2, ["frobnicate"]),
        (2, ["fit"]),
        (2, ["inspect", "model.keras", "--priors", "weights"]),
        (2, ["fit", "model.keras", "--data", "data.npz", "--train", "0", "--out", "out"]),
        (2, [*fit, "full"]),
        (2, [*fit, "data.npz"]),
        (2, [*fit, "data.npz/out"]),
        (2, [*fit, "out", "--noise-variance", "-1"]),
        (2, [*fit, "out", "--noise-variance", "nan"]),
        (2, [*fit, "out", "--jitter", "some"]),
        (2, [*fit, "out", "--overrides", "none.yaml"]),
        (2, [*fit, "out", "--input-shape", "8,0,1"]),
        (2, ["inspect", "zoo:vgg", "--json"]),
        (2, ["inspect", "model.keras", "--template", "data.npz"]),
        (2, ["inspect", "model.keras", "--template", "-", "--json"]),
        (
            2,
            ["search", "other", "--data", "sample", "--train", "9", "--samples", "2", "--out", "o"],
        ),
        (2, ["tune", "model.keras", "--data", "sample", "--train", "9", "--out", "data.npz"]),
        (2, ["plot"]),
        (2, ["plot", "trials", "none.csv", "--out", "picture.png"]),
        (2, ["plot", "trials", "data.npz", "--out", "picture.pdf"]),
        (4, ["inspect", "none.keras"]),
        (4, ["inspect", "full"]),
        (4, ["inspect", "data.npz"]),
        (4, ["evaluate", "full", "--data", "sample", "--test", "9"]),
        (4, ["predict", "none", "--data", "sample", "--out", "p.csv"]),
        (5, ["fit", "model.keras", "--data", "none.npz", "--train", "9", "--out", "out"]),
        (5, ["fit", "model.keras", "--data", "tfds:", "--train", "9", "--out", "out"]),
    ]
    program = (
        "import json, sys\n"
        "from keras2gp.cli.main import main\n"
        "codes = [main(line) for _, line in json.loads(sys.argv[1])]\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "open('result.json', 'w').write(json.dumps([codes, heavy]))\n"
    )
    done = spawn("-c", program, json.dumps(lines), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    codes, heavy = json.loads((tmp_path / "result.json").read_text())
    assert codes == [code for code, _ in lines]
    assert heavy == []
    assert "Traceback" not in done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.keras", "data.npz", "full", "result.json"}


def test_a_usage_error_names_the_command_and_its_help(run):
    code, out, err = run("fit", "zoo:convnet", "--data", "sample", "--train", "-3", "--out", "x")
    assert (code, out) == (2, "")
    assert "--train" in err
    assert "'-3'" in err
    assert "keras2gp fit --help" in err


def test_a_model_that_is_no_model_is_told_from_what_it_is(files, fitted, run):
    for path, hint in ((fitted, "is a fitted model"), (fitted / "kernel", "is a kernel already")):
        code, _, err = run("convert", path, files / "new")
        assert code == 4
        assert hint in err
        with pytest.raises(ModelFileError, match=hint):
            keras2gp.convert(path)


def test_commands_and_functions_say_the_same_of_a_directory(files, run, tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    for place in (whole, part, tmp_path / "parent" / "model"):
        with zipfile.ZipFile(files / "tiny.keras") as archive:
            archive.extractall(place)
    (part / "config.json").unlink()
    (tmp_path / "empty").mkdir()
    assert run("inspect", whole)[0] == 0
    for path, told in (
        (part, "an unzipped .keras file without its config.json, which holds the layers. Try: the"),
        (tmp_path / "empty", "a directory without config.json; a model is read from a .keras, .h5"),
        (tmp_path / "parent", f"of an unzipped .keras file. Try: {tmp_path / 'parent' / 'model'}"),
    ):
        with pytest.raises(ModelFileError) as caught:
            keras2gp.convert(path)
        for command in ("inspect", "verify"):
            code, _, err = run(command, path)
            assert code == 4
            assert str(caught.value) in err.replace("\n", " ")
        assert told in str(caught.value)
    with pytest.raises(ModelFileError, match=r"no saved kernel.* is a model\. Try: keras2gp\.conv"):
        keras2gp.load(whole)


def test_options_of_a_conversion_do_not_fit_a_kernel(fitted, run, tmp_path):
    fit = ["fit", fitted / "kernel", "--data", "sample", "--train", "9", "--out", tmp_path / "o"]
    code, _, err = run(*fit, "--prior", "weights", "--dtype", "float64")
    assert code == 2
    assert "--prior, --dtype" in err


def test_the_zoo_has_the_names_that_the_arguments_know():
    from keras2gp.zoo import ZOO

    assert tuple(ZOO) == arguments.ZOO_NAMES


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1e3", "nan", "²"])
def test_counts_are_whole_numbers_from_one(text):
    with pytest.raises(argparse.ArgumentTypeError):
        option_values.count(text)


def test_values_of_options():
    assert option_values.variance_or_auto("auto") == "auto"
    assert option_values.variance_or_auto("1e-6") == 1e-6
    assert option_values.shape("28,28,1") == option_values.shape("28x28x1") == ("", (28, 28, 1))
    assert option_values.shape("a=b=7") == ("a=b", (7,))
    with pytest.raises(argparse.ArgumentTypeError):
        option_values.shape("28,x")


def test_every_command_can_be_checked_and_run():
    actions = build_parser()._subparsers._group_actions[0]
    assert tuple(actions.choices) == command_names()
    plot = actions.choices["plot"]._subparsers._group_actions[0]
    assert tuple(plot.choices) == KINDS
    parsers = [parser for name, parser in actions.choices.items() if name != "plot"]
    for parser in [*parsers, *plot.choices.values()]:
        check, command = parser.get_default("check"), parser.get_default("run")
        assert callable(command.function())
        # commands/NAME.py has its options in options/NAME.py.
        module = command.name.partition(".")[0].removesuffix("_document")
        assert check.__module__ == f"keras2gp.cli.options.{module}"
        reader = command.rows
        assert reader is None or callable(getattr(rows, reader))
