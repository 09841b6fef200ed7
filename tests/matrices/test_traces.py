"""Traced functions are found again by what they compute, and give the values of the function."""

import gc
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras2gp
from keras2gp._util.program_cache import ProgramCache
from keras2gp.covariance import program, registry  # noqa: F401 (program registers the duals)
from keras2gp.errors import StoreError
from keras2gp.matrices import traces
from keras2gp.matrices.traces import KeptFunctions
from keras2gp.matrices.xla import Xla


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache of this process, which TensorFlow does not know; with the package's rules alone."""
    monkeypatch.setattr(registry, "_OWN", {})
    for name in ("_DUALS", "_RULES"):
        known = getattr(registry, name).items()
        ours = {key: kind for key, kind in known if kind.__module__.startswith("keras2gp.")}
        monkeypatch.setattr(registry, name, ours)
    monkeypatch.setenv("KERAS2GP_CACHE", str(tmp_path / "cache"))
    cache = ProgramCache.open("compiler")
    cache.share()
    monkeypatch.setattr(traces, "set_up_xla", lambda: Xla(False, cache))
    traces._made.clear()
    yield cache
    cache.close()


def stored(kept):
    return sorted(path.name for path in kept.directory.glob("keras2gp_*.pb"))


def kernel_of(units=3, activation="relu", **settings):
    weight = {"kernel_initializer": "he_normal", **settings}
    layers = [keras.Input((4,)), keras.layers.Dense(units, activation, **weight)]
    return keras2gp.convert(keras.Sequential([*layers, keras.layers.Dense(1, **weight)]))


X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


def test_the_same_network_is_traced_once(kept, monkeypatch):
    first = kernel_of().matrix(X)
    names = stored(kept)
    assert len(names) == 2  # of images, and of pairs
    traces._made.clear()
    monkeypatch.setattr(traces, "_traced", None)
    again = kernel_of(units=7)  # an infinitely wide layer, whatever its name and its width
    np.testing.assert_array_equal(again.matrix(X), first)
    assert stored(kept) == names


def test_values_are_those_without_it(kept, monkeypatch):
    with_it = [kernel_of().matrix(X), kernel_of().diag(X), *kernel_of()(X, X[:2], get="both")]
    monkeypatch.setattr(traces, "set_up_xla", lambda: Xla(False, None))
    without = [kernel_of().matrix(X), kernel_of().diag(X), *kernel_of()(X, X[:2], get="both")]
    for found, expected in zip(with_it, without, strict=True):
        np.testing.assert_array_equal(found, expected)


def nothing(_content):
    return b""


def cut(content):
    return content[: len(content) // 3]


def without_functions(content):
    return content.partition(b"\n")[0] + b"\n"


def of_fewer_results(content):
    return b"[]\n" + content.partition(b"\n")[2]


def of_more_results(content):
    structure = {"dict": {f"{number}": 0 for number in range(99)}}
    return json.dumps(structure).encode() + b"\n" + content.partition(b"\n")[2]


def of_another(content):
    structure, _, library = content.partition(b"\n")
    functions = tf.compat.v1.GraphDef.FromString(library)
    functions.library.function[0].signature.name += "0"
    return structure + b"\n" + functions.SerializeToString()


DAMAGES = [nothing, cut, without_functions, of_fewer_results, of_more_results, of_another]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_traces_are_made_again(kept, damage):
    """Whatever their digest says: it is compared where a process starts."""
    first = kernel_of().matrix(X)
    names = stored(kept)
    for name in names:
        path = kept.directory / name
        path.write_bytes(damage(path.read_bytes()))
        (kept._folder / f"{'0' * 64}.{name}").write_bytes(path.read_bytes())
    traces._made.clear()
    gc.collect()
    with pytest.warns(RuntimeWarning, match="are damaged; they are removed"):
        np.testing.assert_array_equal(kernel_of().matrix(X), first)
    assert not list(kept._folder.glob("*.pb"))


def test_a_trace_that_fails_when_it_runs(kept):
    x = tf.constant([3.0])
    double = tf.function(lambda x: 2 * x)
    assert float(KeptFunctions("double").call(double, x)[0]) == 6.0
    (path,) = kept.directory.glob("keras2gp_*.pb")
    structure, _, library = path.read_bytes().partition(b"\n")
    functions = tf.compat.v1.GraphDef.FromString(library)
    (multiplied,) = [n for n in functions.library.function[0].node_def if n.op == "Mul"]
    multiplied.op = "OfAnotherRelease"
    path.write_bytes(structure + b"\n" + functions.SerializeToString())
    traces._made.clear()
    gc.collect()
    again = KeptFunctions("double")
    with pytest.warns(RuntimeWarning, match="are damaged; they are removed"):
        assert float(again.call(double, x)[0]) == 6.0
    assert not list(kept.directory.glob("*.pb"))
    assert float(again.call(double, x)[0]) == 6.0


def test_the_trace_of_another_network_under_its_name(kept):
    first = kernel_of().matrix(X)
    ours = stored(kept)
    other = kernel_of(activation="linear").matrix(X)
    theirs = sorted(set(stored(kept)) - set(ours))
    assert not np.array_equal(first, other)
    contents = {name: (kept.directory / name).read_bytes() for name in theirs}
    sizes = {name: (kept.directory / name).stat().st_size for name in ours}
    for name, content in zip(
        sorted(ours, key=sizes.get), sorted(contents.values(), key=len), strict=True
    ):
        (kept.directory / name).write_bytes(content)
    traces._made.clear()
    gc.collect()
    with pytest.warns(RuntimeWarning, match="are damaged; they are removed"):
        np.testing.assert_array_equal(kernel_of().matrix(X), first)


@pytest.mark.parametrize("other", ["gelu", "linear"])
def test_another_network_has_a_trace_of_its_own(kept, other):
    kernel_of().matrix(X)
    names = set(stored(kept))
    kernel_of(activation=other).matrix(X)
    assert len(set(stored(kept)) - names) == 2


def test_another_source_of_this_package_has_traces_of_its_own(kept, monkeypatch):
    kernel_of().matrix(X)
    monkeypatch.setattr(traces, "_source", lambda: "another")
    kernel_of().matrix(X)
    assert len(stored(kept)) == 4


def test_nothing_is_kept_where_rules_are_not_of_this_package(kept, monkeypatch):
    monkeypatch.setattr(traces, "has_outside", lambda: True)
    kernel_of().matrix(X)
    assert stored(kept) == []


def test_an_own_dual_is_told(kept, monkeypatch):
    assert not registry.has_outside()

    class Own:
        pass

    monkeypatch.setitem(registry._DUALS, "relu", Own)
    assert registry.has_outside()


def test_a_function_stays_as_long_as_any_kernel_needs_it(kept):
    first = kernel_of()
    values = first.matrix(X)
    names = [found.names[0] for found in traces._made.values()]
    gc.collect()
    counts = [traces._registered[name] for name in names]
    traces._made.clear()
    second = kernel_of()
    second.matrix(X)
    assert [traces._registered[name] for name in names] == [n + 1 for n in counts]
    del second
    gc.collect()
    assert [traces._registered[name] for name in names] == counts
    np.testing.assert_array_equal(first.matrix(X), values)


def failing(kept, times):
    """A function that TensorFlow gives up so many times, as on a full disk."""
    left = [times]

    def compute(x):
        if left[0]:
            left[0] -= 1
            raise tf.errors.UnknownError(None, None, f"{kept.directory}/a.pb; No space left")
        return x

    return tf.function(compute), left


def test_a_full_disk_is_cleared_once(kept, monkeypatch):
    monkeypatch.setattr(KeptFunctions, "_kept", lambda *_arguments: None)
    (kept.directory / "old.pb").write_bytes(b"old")
    function, _ = failing(kept, 1)
    assert float(KeptFunctions().call(function, tf.constant(3.0))) == 3.0
    assert not list(kept.directory.glob("*.pb"))
    function, _ = failing(kept, 2)
    with pytest.raises(StoreError, match=r"No space left.*KERAS2GP_CACHE=off"):
        KeptFunctions().call(function, tf.constant(3.0))


def test_a_fault_of_the_computation_is_raised_as_it_is(kept, monkeypatch):
    monkeypatch.setattr(KeptFunctions, "_kept", lambda *_arguments: None)

    def compute(x):
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    with pytest.raises(tf.errors.ResourceExhaustedError):
        KeptFunctions().call(tf.function(compute), tf.constant(3.0))
