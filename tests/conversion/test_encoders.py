"""Layers that encode text and integers, run by Keras on the data: live, from files, and saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras2gp
from keras2gp.errors import InputError, ModelFileError, UnsupportedModelError

HE = {"kernel_initializer": "he_normal"}
WORDS = np.array([["a"], ["b"], ["c"], ["zzz"]])
NUMBERS = np.array([[3], [5], [9]])


def adapted(layer, data):
    layer.adapt(np.array(data))
    return layer


def lookup(**settings):
    return layers.StringLookup(vocabulary=["a", "b", "c"], **settings)


CASES = {
    "StringLookup": (lambda: lookup(output_mode="one_hot"), WORDS),
    "StringLookup, indices": (lookup, WORDS),
    "StringLookup, no others": (
        lambda: lookup(num_oov_indices=0, output_mode="one_hot"), WORDS[:3]
    ),
    "StringLookup, two columns": (
        lambda: lookup(output_mode="multi_hot"), np.array([["a", "b"], ["c", "q"]])
    ),
    "StringLookup, adapted": (
        lambda: adapted(layers.StringLookup(output_mode="multi_hot"), ["a", "b", "q"]), WORDS
    ),
    "StringLookup, tf-idf": (
        lambda: adapted(layers.StringLookup(output_mode="tf_idf"), [["a", "b"], ["b", "q"]]),
        np.array([["a", "b"], ["q", "x"]]),
    ),
    "IntegerLookup": (
        lambda: layers.IntegerLookup(vocabulary=[3, 5, 7], output_mode="one_hot"), NUMBERS
    ),
    "Hashing": (lambda: layers.Hashing(7, output_mode="one_hot"), WORDS),
    "Hashing of integers": (lambda: layers.Hashing(7, salt=3), NUMBERS),
    "CategoryEncoding": (
        lambda: layers.CategoryEncoding(10, output_mode="multi_hot"), np.array([[0, 1], [2, 9]])
    ),
    "Discretization": (
        lambda: layers.Discretization([1.0, 2.0], output_mode="one_hot"),
        np.array([[0.5], [1.5], [9.0]]),
    ),
    "Discretization, adapted": (
        lambda: adapted(layers.Discretization(num_bins=3, output_mode="one_hot"), np.arange(12.0)),
        np.array([[0.5], [4.0], [9.0]]),
    ),
    "TextVectorization": (
        lambda: layers.TextVectorization(output_mode="count", vocabulary=["the", "cat", "sat"]),
        np.array([["The cat, the"], ["sat on it"]]),
    ),
    "TextVectorization, indices": (
        lambda: layers.TextVectorization(output_sequence_length=3, vocabulary=["the", "cat"]),
        np.array([["The cat, the"], ["sat on it"]]),
    ),
    "TextVectorization, adapted": (
        lambda: adapted(layers.TextVectorization(output_mode="tf_idf"), ["the cat", "the dog"]),
        np.array([["The cat, the"], ["sat on it"]]),
    ),
    "Normalization, adapted": (
        lambda: adapted(layers.Normalization(), np.arange(12.0).reshape(6, 2)),
        np.array([[0.5, 3.0], [4.0, -1.0]]),
    ),
}  # fmt: skip
WITHOUT = {"StringLookup, tf-idf", "TextVectorization, adapted"}
"""Adapted weights of entries, which Keras does not save."""
DTYPES = {"U": "string", "i": "int64", "f": "float32"}


def model_of(layer, x):
    word = keras.Input(x.shape[1:], dtype=DTYPES[x.dtype.kind], name="word")
    return keras.Model(word, layers.Dense(1, **HE)(layer(word)))


def expected_of(layer, x):
    features = np.asarray(layer(tf.constant(x)), np.float64)
    return 2 * features @ features.T / features.shape[-1]


@pytest.mark.parametrize("name", CASES)
def test_encoders_run_on_the_data(name):
    build, x = CASES[name]
    layer = build()
    kernel = keras2gp.convert(model_of(layer, x), dtype="float64")
    np.testing.assert_allclose(kernel(x), expected_of(layer, x), rtol=1e-6, atol=1e-12)
    dtype = DTYPES[x.dtype.kind]
    assert kernel.inputs[0].dtype == ("" if dtype == "float32" else dtype)
    rows = [row.became for row in kernel.report.rows]
    assert rows == ["run by Keras", "dense"]
    if x.dtype.kind == "U":
        for same in (x.astype(object), x.tolist(), x[:, 0] if x.shape[1] == 1 else x):
            np.testing.assert_array_equal(kernel(same), kernel(x))


@pytest.mark.parametrize("name", CASES)
def test_encoders_from_a_file(name, tmp_path):
    """A vocabulary in the settings, or beside them, is data."""
    build, x = CASES[name]
    layer = build()
    model_of(layer, x).save(tmp_path / "m.keras")
    if name in WITHOUT:
        with pytest.raises(UnsupportedModelError, match="neither in its settings nor beside"):
            keras2gp.convert(tmp_path / "m.keras")
        return
    kernel = keras2gp.convert(tmp_path / "m.keras", dtype="float64")
    np.testing.assert_allclose(kernel(x), expected_of(layer, x), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["StringLookup, tf-idf", "IntegerLookup", "TextVectorization"])
def test_saved_kernels_keep_them(name, tmp_path):
    build, x = CASES[name]
    kernel = keras2gp.convert(model_of(build(), x), dtype="float64")
    kernel.save(tmp_path / "kernel")
    loaded = keras2gp.load(tmp_path / "kernel")
    assert loaded.inputs == kernel.inputs
    np.testing.assert_array_equal(loaded(x), kernel(x))
    served = tf.saved_model.load(tmp_path / "kernel").signatures["serving_default"]
    arrays = {key: tf.constant(x) for key in ("x1", "x2")}
    np.testing.assert_allclose(served(**arrays)["matrix"], kernel(x), rtol=1e-12)


def adapted_lookups():
    """Of two classes, two of one class, and one in a nested model."""
    a, b = keras.Input((1,), dtype="string", name="a"), keras.Input((1,), dtype="int64", name="b")

    def hot(kind, data, name):
        return adapted(kind(output_mode="one_hot", name=name), data)

    word = keras.Input((1,), dtype="string")
    inner = keras.Model(word, hot(layers.StringLookup, ["z", "q"], "in")(word), name="inner")
    h = layers.Concatenate()([
        hot(layers.StringLookup, ["x", "two words", "q"], "first")(a),
        hot(layers.StringLookup, ["u"], "second")(a),
        hot(layers.IntegerLookup, [3, 5], "numbers")(b),
        inner(a),
    ])  # fmt: skip
    return keras.Model([a, b], layers.Dense(1, **HE)(h))


@pytest.mark.parametrize("zipped", [True, False])
def test_adapted_vocabularies_lie_beside_the_settings(zipped, tmp_path):
    model = adapted_lookups()
    model.save(tmp_path / ("m.keras" if zipped else "m"), zipped=zipped)
    x = {"a": np.array([["x"], ["two words"], ["z"], ["none"]]), "b": [[3], [5], [9], [3]]}
    path = tmp_path / ("m.keras" if zipped else "m")
    np.testing.assert_array_equal(keras2gp.convert(path)(x), keras2gp.convert(model)(x))


def test_a_damaged_vocabulary_is_refused(tmp_path):
    import zipfile

    adapted_lookups().save(tmp_path / "m.keras")
    for text, error, why in (
        (b"[UNK]\n\xff", ModelFileError, "damaged"),
        (b"[UNK]\nu\nv", UnsupportedModelError, "neither in its settings nor beside"),
    ):
        with (
            zipfile.ZipFile(tmp_path / "m.keras") as source,
            zipfile.ZipFile(tmp_path / "c.keras", "w") as target,
        ):
            for name in source.namelist():
                changed = name == "assets/layers/string_lookup_1/vocabulary.txt"
                target.writestr(name, text if changed else source.read(name))
        with pytest.raises(error, match=why):
            keras2gp.convert(tmp_path / "c.keras")


def crossed():
    a, b = keras.Input((1,), dtype="string", name="a"), keras.Input((1,), dtype="int64", name="b")
    n = keras.Input((2,), name="n")
    h = layers.HashedCrossing(5, output_mode="one_hot")([a, b])
    h = layers.Concatenate()([h, lookup(output_mode="one_hot")(a), n])
    return keras.Model([a, b, n], layers.Dense(1, **HE)(h)), keras.Model([a, b, n], h)


A, B = WORDS[:3], np.array([[1], [2], [2]])
N = np.array([[0.1, 1e-3], [2.5, -1.0], [1e5, 3.0]])


def test_crosses_of_several_inputs_and_tables():
    model, features = crossed()
    kernel = keras2gp.convert(model, dtype="float64")
    z = np.asarray(features([tf.constant(x) for x in (A, B, N)]), np.float64)
    found = kernel([A, B, N])
    np.testing.assert_allclose(found, 2 / z.shape[1] * z @ z.T, rtol=1e-6)
    table = np.array([[*a, *b, *n] for a, b, n in zip(A, B, N, strict=True)], dtype=object)
    for same in ({"n": N, "b": B, "a": A}, [A[:, 0], B[:, 0], N], table, table.astype(str)):
        np.testing.assert_array_equal(kernel(same), found)


@pytest.mark.parametrize(
    ("x", "why"),
    [
        ([A, B + 0.5, N], r"the input b: the value at \(0, 0\) .*is 1.5.*integers of int64"),
        ([B, B, N], "the input a: values of type int64, expected text"),
        ([np.array([["x"], [None], ["y"]], object), B, N], r"the value at \(1, 0\) .* is None"),
        ([A, A, N], "the input b: values of type <U3, expected real numbers"),
        ([A, B, N * np.nan], "the input n: 6 values are not finite"),
        ([A, B], "3 inputs"),
        (np.array([["a", "one", "1", "2"]]), "the input b takes numbers"),
        (np.array([["a", "1", "nan", "2"]]), "not finite"),
    ],
)
def test_bad_values_are_refused_by_name(x, why):
    kernel = keras2gp.convert(crossed()[0])
    with pytest.raises(InputError, match=why):
        kernel(x)


def test_integers_that_a_dtype_does_not_hold():
    x = keras.Input((1,), dtype="int8")
    kernel = keras2gp.convert(keras.Model(x, layers.Dense(1)(layers.Hashing(3)(x))))
    with pytest.raises(InputError, match="300, and the model's input takes integers of int8"):
        kernel([[300]])


def test_text_that_reaches_weights_and_features_that_reach_an_encoder():
    x = keras.Input((1,), dtype="string")
    (obstacle,) = keras2gp.inspect(keras.Model(x, layers.Dense(1)(layers.Identity()(x)))).obstacles
    assert "its input is text" in obstacle.why
    y = keras.Input((3,))
    h = layers.Discretization([0.0], output_mode="one_hot")(layers.Dense(1)(y))
    (obstacle,) = keras2gp.inspect(keras.Model(y, layers.Dense(1)(h))).obstacles
    assert "encodes data" in obstacle.why
    assert "before the first layer with weights" in obstacle.hint


def test_sparse_and_ragged_results_are_refused():
    x = keras.Input((1,), dtype="string")
    h = lookup(output_mode="multi_hot", sparse=True)(x)
    (obstacle,) = keras2gp.inspect(keras.Model(x, layers.Dense(1)(h))).obstacles
    assert "sparse" in obstacle.why


def test_a_vocabulary_given_as_a_path_is_refused(tmp_path):
    """A file's path is not opened, whatever it leads to."""
    (tmp_path / "secret.txt").write_text("a\nb\n")
    text = model_of(lookup(output_mode="one_hot"), WORDS).to_json()
    changed = text.replace('["a", "b", "c"]', f'"{tmp_path / "secret.txt"}"')
    assert changed != text
    (tmp_path / "m.json").write_text(changed)
    (obstacle,) = keras2gp.inspect(tmp_path / "m.json").obstacles
    assert "the path of another file, which is not opened" in obstacle.why
    assert "a list as vocabulary=" in obstacle.hint


def test_code_in_the_settings_of_a_text_layer_is_refused(tmp_path):
    @keras.saving.register_keras_serializable(package="encoders")
    def shout(text):
        return tf.strings.upper(text)

    layer = layers.TextVectorization(
        output_mode="count", vocabulary=["A", "B"], standardize=shout, split=None
    )
    model = model_of(layer, WORDS)
    np.testing.assert_allclose(
        keras2gp.convert(model, dtype="float64")(WORDS), expected_of(layer, WORDS), rtol=1e-9
    )
    (tmp_path / "m.json").write_text(model.to_json())
    (obstacle,) = keras2gp.inspect(tmp_path / "m.json").obstacles
    assert "function" in obstacle.why


def test_stores_of_text(tmp_path):
    kernel = keras2gp.convert(model_of(lookup(output_mode="one_hot"), WORDS))
    matrix = keras2gp.gram(kernel, WORDS, out=tmp_path / "k.zarr")
    np.testing.assert_array_equal(matrix, kernel(WORDS))
    again = keras2gp.gram(kernel, WORDS, out=tmp_path / "k.zarr")
    np.testing.assert_array_equal(again, matrix)
    with pytest.raises(keras2gp.errors.StoreError, match="the images of the rows"):
        keras2gp.gram(kernel, WORDS[::-1], out=tmp_path / "k.zarr")


def test_a_changed_dtype_in_a_saved_kernel_is_refused(tmp_path):
    from keras2gp.kernel.parts import KernelParts

    parts = keras2gp.convert(model_of(lookup(output_mode="one_hot"), WORDS)).parts
    data = parts.to_dict()
    data["inputs"][0]["dtype"] = "object"
    with pytest.raises(ModelFileError, match="input of the type 'object'"):
        KernelParts.from_dict(data, parts.preprocessor)
