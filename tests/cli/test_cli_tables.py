"""CSV files and text on the command line: columns by name, numbers and text side by side."""

import json
import re
import time

import keras
import numpy as np
import pytest
from keras import layers

import keras2gp
from keras2gp.cli.tables import dominant_column, prepared_table
from keras2gp.data import load
from keras2gp.data.tables import line_of
from keras2gp.errors import DataError, InputError
from keras2gp.kernel.inputs import InputSpec

HE = {"kernel_initializer": "he_normal"}
COLOURS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """mixed.keras of two inputs, its rows as CSV and .npz, words.keras of text alone."""
    folder = tmp_path_factory.mktemp("tables")
    a, b = keras.Input((1,), dtype="string", name="colour"), keras.Input((1,), name="size")
    lookup = layers.StringLookup(vocabulary=COLOURS, output_mode="one_hot")
    h = layers.Dense(8, activation="relu", **HE)(layers.Concatenate()([lookup(a), b]))
    keras.Model([a, b], layers.Dense(1, **HE)(h), name="mixed").save(folder / "mixed.keras")
    rng = np.random.default_rng(0)
    colour, size = rng.choice(COLOURS, 40), rng.normal(size=40)
    y = 2.0 * (colour == "red") + size
    rows = [f"{s!r},{c},\"n, {i}\",{t!r}" for i, (c, s, t) in enumerate(
        zip(colour.tolist(), size.tolist(), y.tolist(), strict=True))]  # fmt: skip
    (folder / "mixed.csv").write_text("\n".join(["size,colour,note,y", *rows]) + "\n")
    x = np.stack([colour, [repr(s) for s in size.tolist()]], axis=1)
    np.savez(folder / "mixed.npz", x=x, y=y)
    x = keras.Input((1,), dtype="string", name="word")
    encoded = layers.TextVectorization(output_mode="count", vocabulary=["good", "bad"])(x)
    keras.Model(x, layers.Dense(1, **HE)(encoded), name="words").save(folder / "words.keras")
    lines = ["good good,yes", "bad,no", "not bad at all,no", "a good one,yes"] * 5
    (folder / "words.csv").write_text("\n".join(["review,y", *lines]))
    return folder


def column(text, name):
    header, *rows = text.strip().split("\n")
    place = header.split(",").index(name)
    return np.array([float(row.split(",")[place]) for row in rows])


def test_the_whole_way_of_a_table(mixed, run, run_json, tmp_path):
    for data in ("mixed.csv", "mixed.npz"):
        out = tmp_path / data
        code, text, error = run(
            *("fit", mixed / "mixed.keras", "--data", mixed / data, "--train", 30, "--out", out),
            "--regression",
        )
        assert code == 0, error
        assert ("columns that are not used: note" in text) == data.endswith(".csv")
        code, document = run_json("evaluate", out, "--data", mixed / data, "--test", 10)
        assert code == 0
        predictions = tmp_path / f"{data}.predictions.csv"
        assert run("predict", out, "--data", mixed / data, "--out", predictions)[0] == 0
    first, second = (
        column((tmp_path / f"mixed.{form}.predictions.csv").read_text(), "mean")
        for form in ("csv", "npz")
    )
    np.testing.assert_array_equal(first, second)
    table = load(str(mixed / "mixed.csv"))
    x = np.stack([table.x_train["colour"], table.x_train["size"]], axis=1)
    kernel = keras2gp.convert(mixed / "mixed.keras")
    fitted = keras2gp.GPRegressor(kernel).fit(x[:30], table.y_train[:30])
    assert np.abs(fitted.predict(x) - first).max() < 0.05
    assert json.dumps(document)


def test_text_is_fitted_and_predicted(mixed, run, tmp_path):
    words = mixed / "words.csv"
    out = tmp_path / "fitted"
    model = mixed / "words.keras"
    assert run("fit", model, "--data", words, "--train", 16, "--out", out)[0] == 0
    assert run("predict", out, "--data", words, "--out", tmp_path / "p.csv")[0] == 0
    rows = (tmp_path / "p.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows[:4]] == ["yes", "no", "no", "yes"]
    code, _, error = run("verify", model, "--dry-run")
    assert code == 5
    assert "is text" in error
    assert run("verify", model, "--data", words, "--dry-run")[0] == 0
    store = tmp_path / "k.zarr"
    assert run("gram", model, "--data", words, "--out", store, "--rows", 8)[0] == 0


def test_a_target_of_another_name(mixed, run, run_json, tmp_path):
    """It is stated for a fit, which later commands remember, and a slip in it is told."""
    other, out = tmp_path / "priced.csv", tmp_path / "out"
    header, *rows = (mixed / "mixed.csv").read_text().splitlines()
    other.write_text("\n".join([header.replace(",y", ",price"), *rows]) + "\n")
    whole = load(str(mixed / "mixed.csv"))
    named = load(str(other), target="price")
    np.testing.assert_array_equal(named.y_train, whole.y_train)
    np.testing.assert_array_equal(named.x_train, whole.x_train)
    with pytest.raises(DataError, match=r"no column prise .*\. Did you mean price\?"):
        load(str(other), target="prise")
    with pytest.raises(DataError, match=r"target is the name of a column of a \.csv file"):
        load("sample", target="price")
    fit = ("fit", mixed / "mixed.keras", "--data", other, "--train", 30, "--regression")
    code, _, error = run(*fit, "--out", out)
    assert code == 5
    assert "no column y" in error
    assert run(*fit, "--target", "price", "--out", out)[0] == 0
    assert json.loads((out / "fit.json").read_text())["target"] == "price"
    assert run("evaluate", out, "--data", other, "--test", 10)[0] == 0
    code, document = run_json("evaluate", out, "--data", mixed / "mixed.csv", "--test", 5)
    assert code == 5
    assert "no column price" in document["error"]["message"]
    code, _ = run_json("evaluate", out, "--data", mixed / "mixed.csv", "--test", 5, "--target", "y")
    assert code == 0
    assert run("predict", out, "--data", other, "--out", tmp_path / "p.csv")[0] == 0
    assert "price" not in (tmp_path / "p.csv").read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "first line is empty"),
        ("\na,y\n1,2\n", "first line is empty"),
        ("a,y\n", "no rows"),
        ("a,a,y\n1,2,3\n", "'a' stands twice"),
        ("a,,y\n1,2,3\n", "no name"),
        ("a,y\n1,2,3\n", "line 2: 3 cells"),
        ("a,y\n1\n", "line 2: 1 cells"),
        ('a,y\n"1,2\n', "no CSV file"),
        ("a,b\n1,2\n", r"no column y .* it has a, b\. Try: .* target='b' \(--target b\)"),
        ("y\n1\n", "no column but y"),
        ("a,y\n1,\n", r"line 2 has no y\. Try: the table without such rows"),
        ("a,y\n1,\n2,3\n4,\n", r"line 2 has no y \(2 rows have none\)"),
        ('a, y \r\n1,2\r\n\r\n"1\r\n2",3\r\n4,\r\n', "line 6 has no y"),
        ('a,y\n\n"1\n2",3\n"1\n2",3,4\n', "line 5: 3 cells"),
        ("a,y\n1,nan\n", "y holds"),
        (b"a,y\n\xff,1\n", "UTF-8"),
        ("a,y\n\0,1\n", "line 2: a cell holds a null character"),
        ("a,y\n1,2\0\n", "line 2: a cell holds a null character"),
        ("a\0,y\n1,2\n", "line 1: a cell holds a null character"),
        ("a;y\n1,5;2\n", "Try: commas between the cells, in place of ';'"),
        ("a\ty\n1\t2\n", "in place of '\\\\t'"),
        (f"a,y\n{'x' * 200_000},1\n", "more than 131072 characters"),
        ("a,y\n1,9223372036854775808\n2,9223372036854775809\n", "more than 64 bits"),
        ("a,y\n1,1.5\n2,9007199254740993\n", "more than 64 bits"),
        ("a,y\n1,1\n2,+1\n", "two texts and one number"),
    ],
)
def test_files_that_are_no_tables(text, why, tmp_path):
    file = tmp_path / "t.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=why):
        load(str(file))


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["001", "002", "100"], ["001", "002", "100"]),
        (["01", "2", "1"], ["01", "2", "1"]),
        ([" 007", "-08", "0"], ["007", "-08", "0"]),
        (["00123456789012345678901", "7", "7"], ["00123456789012345678901", "7", "7"]),
        (["0", "10", "-5"], [0, 10, -5]),
        (["0.5", "007", "1e3"], [0.5, 7.0, 1000.0]),
    ],
)
def test_whole_numbers_with_leading_zeros_are_texts(cells, labels, tmp_path):
    """A post code is a name; a column of real numbers holds targets."""
    file = tmp_path / "t.csv"
    file.write_text("a,y\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells)))
    assert load(str(file)).y_train.tolist() == labels


def test_labels_with_leading_zeros_from_fit_to_evaluation(run, run_json, tmp_path):
    """Test rows that lack those with zeros are of the same classes; a regression has numbers."""
    x = keras.Input((1,))
    keras.Model(x, layers.Dense(1, **HE)(x)).save(tmp_path / "m.keras")
    whole, rest = tmp_path / "whole.csv", tmp_path / "rest.CSV"
    whole.write_text("a,y\n" + "".join(f"{i},{('007', '100')[i % 2]}\n" for i in range(12)))
    rest.write_text("a,y\n" + "".join(f"{i + 0.5},100\n" for i in range(4)))
    fit = ("fit", tmp_path / "m.keras", "--data", whole, "--train", 10, "--noise-variance", 1)
    out, real, csv = tmp_path / "f", tmp_path / "r", tmp_path / "p.CSV"
    assert run(*fit, "--out", out)[0] == 0
    assert run("predict", out, "--data", rest, "--out", csv)[0] == 0
    header, *rows = csv.read_text().splitlines()
    assert header == "row,label,variance,p_007,p_100"
    assert {row.split(",")[1] for row in rows} <= {"007", "100"}
    error = np.mean([row.split(",")[1] == "007" for row in rows])
    code, document = run_json("evaluate", out, "--data", rest, "--test", 4)
    assert (code, document["measures"]["error_rate"]) == (0, error)
    code, document = run_json("evaluate", out, "--data", whole, "--test", 2)
    assert (code, document["warnings"]) == (0, [])
    assert run(*fit, "--regression", "--out", real)[0] == 0
    assert run_json("evaluate", real, "--data", whole, "--test", 2)[0] == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("colour,y\nred,1\n", "no column size"),
        ("colour,size,y\nred,big,1\n", "the input size takes numbers"),
        ("colour,size,y\nred,inf,1\n", "not finite"),
    ],
)
def test_tables_that_do_not_fit_the_model(text, why, mixed, run, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    model, out = mixed / "mixed.keras", tmp_path / "o"
    code, _, error = run(
        "fit", model, "--data", tmp_path / "t.csv", "--train", 1, "--out", out, "--regression"
    )
    assert code == 5
    assert why in error


def test_numbers_alone_need_no_text(run, tmp_path):
    x = keras.Input((2,))
    keras.Model(x, layers.Dense(1, **HE)(x)).save(tmp_path / "m.keras")
    (tmp_path / "t.csv").write_text("a,b,y\n1,2,0\n0.5,-1e3,1\n3,4,0\n")
    arguments = ("--data", tmp_path / "t.csv", "--train", 2)
    assert run("fit", tmp_path / "m.keras", *arguments, "--out", tmp_path / "f")[0] == 0
    (tmp_path / "t.csv").write_text("a,b,y\n1,x,0\n,2,1\n3,x,1\n")
    code, _, error = run("fit", tmp_path / "m.keras", *arguments, "--out", tmp_path / "g")
    assert code == 5
    for text in (
        "the column a holds '' in line 3; the column b holds 'x' in line 2: expected",
        "without those rows; a number for each category, or a model with an input for each column",
    ):
        assert text in error


@pytest.mark.parametrize("cell", ["nan", "inf"])
def test_cells_that_are_not_finite_are_named_by_their_line(cell, tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(f"a,b,y\n1,2,0\n3,{cell},1\n")
    message = f"the column b holds {cell!r} in line 3: expected finite numbers. Try: numbers in"
    with pytest.raises(InputError, match=message):
        prepared_table([InputSpec("x", (2,))], load(str(file)).x_train, str(file))


def test_decimal_commas_are_told_of():
    specs = [InputSpec("x", (2,))]
    table = np.array([("1,5", "2")], dtype=[("a", "U3"), ("b", "U3")])
    with pytest.raises(InputError, match=r"'1,5': .* a decimal point in place of the comma"):
        prepared_table(specs, table, "a table of no file")


def test_lines_are_those_of_the_file_whatever_the_order_of_the_rows(tmp_path):
    """The first line is the header; rows may be shuffled, and a cell may have lines."""
    file = tmp_path / "t.csv"
    rows = ["1,2", '"3\n3",4', "", *[f"{number},5" for number in range(8)], "x,7"]
    file.write_text("\n".join(["a,y", *rows, ""]))
    lines = file.read_text().split("\n")
    assert lines[line_of(str(file), "a", "x") - 1] == "x,7"
    assert lines[line_of(str(file), "a", "3\n3") - 1] == '"3'
    for absent in ((str(file), "a", "z"), (str(file), "b", "x"), (str(tmp_path), "a", "x")):
        assert line_of(*absent) is None
    table = load(str(file)).shuffled(1).x_train
    with pytest.raises(
        InputError, match=rf"the column a holds .* in line {lines.index('x,7') + 1}"
    ):
        prepared_table([InputSpec("x", (1,))], table[table["a"] == "x"], str(file))


def test_a_table_of_many_columns_is_read(tmp_path):
    count = 40_000
    lines = [",".join(f"c{i}" for i in range(count)) + ",y", *[",".join("1" * (count + 1))] * 2]
    (tmp_path / "wide.csv").write_text("\n".join(lines))
    started = time.process_time()
    table = load(str(tmp_path / "wide.csv")).x_train
    assert len(table.dtype.names) == count
    assert time.process_time() - started < 10


@pytest.mark.parametrize("normalized", [False, True])
def test_a_column_that_hides_the_others_is_told_of(normalized, run, tmp_path):
    x = keras.Input((2,))
    first = layers.Normalization(mean=[0.0, 0.0], variance=[1e6, 1.0])
    h = first(x) if normalized else x
    keras.Model(x, layers.Dense(1, **HE)(h)).save(tmp_path / "m.keras")
    (tmp_path / "t.csv").write_text("a,b,y\n1000,2,0\n-1000,3,1\n0,4,0\n")
    arguments = ("--data", tmp_path / "t.csv", "--train", 3, "--dry-run")
    code, text, _ = run("fit", tmp_path / "m.keras", *arguments, "--out", tmp_path / "f")
    assert code == 0
    assert ("the column a has 100.000% of the variance of the inputs" in text) != normalized
    (told,) = dominant_column(np.array([[1e9, 0.0], [0.0, 1.0]]))
    assert told.startswith("the column 0 of 2 (counted from 0) has")
    for x in (np.eye(2), np.zeros((3, 2)), np.ones((2, 2), int), np.eye(4).reshape(2, 2, 2, 2)):
        assert dominant_column(x) == []


def test_rows_of_another_form_name_their_source_and_what_to_try(fitted, files, run, tmp_path):
    (tmp_path / "table.csv").write_text("a,b,y\n1,2,up\n3,4,down\n")
    np.savez(tmp_path / "large.npz", x=np.zeros((9, 8, 8, 1)), y=np.arange(9) % 3)
    own = ["--data", files / "data.npz", "--test", 9, "--ood"]
    for arguments, told in (
        (["evaluate", fitted, *own, tmp_path / "large.npz"], "--ood .*large.npz: .*6 x 6 pixels"),
        (["evaluate", fitted, *own, tmp_path / "table.csv"], "--ood .*table.csv: 2 columns"),
        (
            ["evaluate", fitted, "--data", tmp_path / "large.npz", "--test", 9],
            "large.npz: images: .*6 x 6 pixels, or a model",
        ),
        (
            ["evaluate", fitted, "--data", tmp_path / "table.csv", "--test", 1],
            "table.csv: 2 columns .a, b., and the model takes inputs of shape .6, 6, 1.. Try: a ",
        ),
    ):
        code, _, err = run(*arguments)
        assert code == 5
        assert re.search(told, err), err


def test_paths_that_are_no_fit_say_what_they_are(files, fitted, run):
    code, _, err = run("evaluate", files / "tiny.keras", "--data", "sample", "--test", 9)
    assert code == 4
    assert "tiny.keras is a file, and a fitted model is a directory. Try: the --out of" in err
    code, _, err = run("fit", files / "tiny.kears", "--data", "sample", "--train", 9, "--out", "o")
    assert code == 4
    assert "Did you mean tiny.keras?" in err
    missing = files / "dat.npz"
    code, _, err = run("fit", files / "tiny.keras", "--data", missing, "--train", 9, "--out", "o")
    assert code == 5
    assert "Did you mean data.npz? Expected sample" in err
    code, _, err = run("fit", files / "tiny.keras", "--noise-variance", "atuo")
    assert code == 2
    assert "'atuo': expected auto, or a finite number" in err
