"""Tables fit into 80 columns where nothing says how wide the output is, and into a terminal."""

from __future__ import annotations

import io

import pytest
from terminals import Stream

from keras2gp.cli.output import Output

HEADER = ("layer", "becomes", "w2", "note")
NOTE = "a note that goes on and on, as those about an activation in float32 and its bounds do"
ROWS = [
    ("a_path/of_several/nested_models/with_long_names/conv2d", "Conv + relu", "2.12345", NOTE),
    ("head", "Dense", "1", ""),
]


def table(terminal):
    stream = Stream(terminal)
    Output(json_wanted=False, stream=stream).table(HEADER, ROWS, ("w2",))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("terminal", "columns", "width"),
    [(False, None, 80), (False, "60", 60), (False, "wide", 80), (False, "0", 80), (True, "50", 50)],
)
def test_tables_are_folded(monkeypatch, terminal, columns, width):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    lines = table(terminal)
    assert max(map(len, lines)) <= width
    # Nothing is lost: a cell goes on in the lines below.
    text = "".join("".join(lines).split())
    for word in (*NOTE.split(), "Conv", "head", "2.12345"):
        assert word in text
    if not terminal:
        assert not any(line.endswith(" ") for line in lines)


@pytest.mark.parametrize(
    ("terminal", "columns", "width"), [(False, None, 200), (False, "60", 60), (True, "50", 50)]
)
def test_lines_go_on_below_their_words(monkeypatch, terminal, columns, width):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    stream = Stream(terminal)
    out = Output(json_wanted=False, stream=stream)
    out.pairs([("solver", NOTE), ("of", "it")])
    out.line(f"  note: {NOTE}")
    out.line()
    out.line("a" * 300)
    lines = stream.getvalue().splitlines()
    assert " ".join(lines[: lines.index("")]).split() == f"solver {NOTE} of it note: {NOTE}".split()
    assert max(map(len, lines[: lines.index("")])) <= width
    assert lines[-1] == "a" * 300  # a path, say, can be copied
    if columns is not None:
        for line, hang in ((lines[1], 10), (lines[-3], 4)):
            assert len(line) - len(line.lstrip()) == hang


def test_a_table_that_fits_is_as_narrow_as_it_is(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    stream = io.StringIO()
    Output(json_wanted=False, stream=stream).table(("a", "b"), [("x", "1")], ("b",))
    assert max(map(len, stream.getvalue().splitlines())) < 10


def test_inspect(files, run, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    code, out, _ = run("inspect", files / "tiny.keras")
    assert code == 0
    rows = out.split("\n\n")[1]
    assert "conv" in rows
    assert max(map(len, rows.splitlines())) <= 80


def test_numbers_are_not_cut_into_two_lines(capsys):
    """Twelve columns of a search in 80 characters: headers are folded, numbers are not."""
    header = ["trial", "validation", "leave-one-out", "evidence", "layers", "window", "stride",
              "padding", "activation", "skip", "weight_variance", "bias_variance"]  # fmt: skip
    row = ["26", "5.90%", "5.00%", "-135522", "7", "7", "1", "valid", "relu", "0", "2.645", "13.28"]
    Output(json_wanted=False).table(header, [row], header)
    *folded, _, last = capsys.readouterr().out.splitlines()
    assert last.split() == row
    assert len(folded) <= 3
    assert max(map(len, [*folded, last])) <= 80
