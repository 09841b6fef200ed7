"""verify: the draws, the verdict and its exit code."""

import pytest

from keras2gp.cli.commands import verify as verifying
from keras2gp.verification.report import Verdict

QUICK = ("--widths", "4,8", "--samples", "20")


def test_the_convergence_is_drawn_and_few_samples_decide_nothing(files, run, run_json):
    code, out, err = run("verify", files / "tiny.keras", *QUICK, "--data", files / "images.npz")
    assert (code, err) == (9, "")
    assert "divided by 255" in out
    for text in ("width 4: ", "width 8: ", "   limit ", "undecided: ", "o--", "samples"):
        assert text in out
    code, document = run_json("verify", files / "tiny.json", *QUICK, "--seed", 3, "--images", 2)
    assert (code, document["verdict"], document["seed"]) == (9, "undecided", 3)
    assert [level["width"] for level in document["levels"]] == [4, 8]
    assert len(document["kernel"]) == len(document["covariance"]) == 2
    assert document["levels"][0]["samples"] == 20
    assert document["seconds"] > 0


def test_a_kernel_that_is_accepted(files, run):
    code, out, _ = run("verify", files / "tiny.keras", "--samples", "200")
    assert code == 0, out
    assert "accepted: " in out
    assert "once in 1,000" in out


def test_what_it_would_take(files, run_json):
    code, document = run_json("verify", files / "tiny.keras", "--dry-run", "--widths", "32,128,512")
    assert code == 0
    narrow, _, wide = document["widths"]
    assert (narrow["width"], wide["width"]) == (32, 512)
    assert wide["weights"] > 2 * narrow["weights"]
    assert wide["memory"] > narrow["memory"]


def test_max_pooling_and_models_without_a_kernel(files, run):
    assert run("verify", files / "pooled.keras", *QUICK)[0] == 3
    code, _, err = run("verify", files / "pooled.keras", *QUICK, "--max-pooling", "average")
    assert code == 9, err


@pytest.mark.parametrize(
    "line",
    [
        ("--widths", "8"),
        ("--widths", "8,8"),
        ("--widths", "8,none"),
        ("--samples", "0"),
        ("--input-shape", "8,x,1"),
    ],
)
def test_wrong_arguments(line, files, run):
    code, _, err = run("verify", files / "tiny.keras", *line)
    assert code == 2
    assert line[0] in err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (("--input-shape", "x"), "'x': expected sizes such as 28,28,1"),
        (("--input-shape", "a=4,"), "'a=4,': expected sizes such as 28,28,1"),
        (("--train", "3"), "--train 3: expected 4 rows or more, for 2 subsets of 2"),
        (("--train", "8"), "--subsets 10: expected 2 to 4"),
    ],
)
def test_what_was_received_is_told(line, told, files, run, tmp_path):
    data = ("--data", files / "data.npz", "--train", "20", "--out", tmp_path / "x")
    code, _, err = run("xray", files / "tiny.keras", *data, *line)
    assert code == 2
    assert told in err


def test_every_verdict_has_an_exit_code():
    assert {str(v): int(verifying._CODES[v]) for v in Verdict} == {
        "accepted": 0, "rejected": 8, "undecided": 9
    }  # fmt: skip


def test_the_help_has_no_signs_of_a_format(run):
    for command in ("verify", "tune"):
        assert "%%" not in run(command, "--help")[1]
