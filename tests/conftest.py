"""Quiet TensorFlow, the same random numbers in every test, and the choice of the slow and the
smoke tests."""

import os
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.pop("COLUMNS", None)  # commands fold their lines at the width that it states
# Two processes test side by side, and threads of BLAS that wait for a core of the other spin.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["KERAS2GP_CACHE"] = "off"  # what one run compiles is not what another one tests

import numpy as np
import pytest

SMOKE = {
    "util": ["a_fault_changes_nothing", "what_does_not_fit_is_refused_with_both_figures"],
    "graph": ["equal_ops_on_equal_inputs_are_one_node", "json_and_back", "every_op_comes_back"],
    "modelfile": ["truncated", "strange_functions_are_not_looked_up", "models_from_files"],
    "conversion": ["layers_that_change_nothing", "sums_and_factors", "fans_are_those_of_keras"],
    "covariance": [
        "agrees_with_quadrature_within_its_bound",
        "agrees_with_loops",
        "agrees_with_all_positions",
    ],
    "kernel": [
        "with_parameters_changes_the_values",
        "a_loaded_kernel_is_the_same_to_the_bit",
    ],
    "matrices": ["a_store_where_it_is_asked_for", "damage_is_found_and_computed_again"],
    "gp": [
        "matches_scikit_learn",
        "is_the_papers_regression",
        "the_temperature_of_the_labels_is_found",
        "matches_scipy",
        "classifier_round_trip",
    ],
    "serving": ["solves_over_several_panels"],
    "verification": ["an_entry_off_the_diagonal_is_rejected", "a_model_without_hidden_layers"],
    "search": ["the_sweep_is_the_tape", "what_is_refused"],
    "adapters": ["scikit_learn_values"],
    "plots": ["learning_curve"],
    "data": ["sample", "npz_x_and_y"],
    "cli": ["version_and_help", "inspect_shows_every_layer", "code_of_an_error"],
    ".": [
        "every_test_that_a_list_names_is_there",
        "imports_follow_the_order",
        "no_circles",
        "public_names",
        "agrees_with_the_reference",
    ],
}
"""Smoke tests by the folder of their package: names without `test_`."""
UNCOMPILED = {
    "cli",
    "conversion",
    "covariance",
    "gp",
    "kernel",
    "serving",
    "tests",
    "verification",
    "xrays",
}
"""Folders whose tests compare values of many small kernels: TensorFlow runs them without XLA, in
half of the time, and in bounded memory, since XLA gives no executable back."""
EAGER = {"conversion", "gp", "kernel"}
"""Folders among them whose tests compute an entry or two of each kernel: TensorFlow runs them
without tracing too, in half of the time. The rules themselves are traced, in covariance."""
LONG = frozenset(Path(__file__).with_name("long_tests.txt").read_text().splitlines())
"""Tests that take seconds each on two cores, by pytest's --durations: they are marked slow, so that
the default run stays under ten minutes. Of a parametrised test the quickest case stays."""
MISSING = pytest.StashKey[list[str]]()
"""Names in SMOKE and LONG of which the collection has no test."""
CASES = 2
"""Cases of a smoke test that are run, of those that it is parametrised with."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark the slow and the smoke tests, and note which of them are missing."""
    seen = Counter()
    for item in items:
        if (name := item.nodeid.removeprefix("tests/")) in LONG:
            item.add_marker("slow")
            seen[name] += 1
        folder = item.path.parent.relative_to(config.rootpath / "tests").as_posix()
        name = item.originalname.removeprefix("test_")
        if name in SMOKE.get(folder, ()) and not item.get_closest_marker("slow"):
            seen[folder, name] += 1
            if seen[folder, name] <= CASES:
                item.add_marker("smoke")
    gone = [f"{f}/{n}" for f, names in SMOKE.items() for n in names if not seen[f, n]]
    skipped = {i.path.name for i in items for m in i.iter_markers("skipif") if m.args == (True,)}
    gone += [n for n in sorted(LONG) if not seen[n] and n.split("::")[0] not in skipped]
    config.stash[MISSING] = gone


@pytest.fixture(autouse=True, scope="module")
def uncompiled(request):
    """No XLA for the tests of some folders, but for those of a module that says COMPILED = True."""
    wanted = request.path.parent.name in UNCOMPILED
    if not wanted or getattr(request.module, "COMPILED", False):
        yield
        return
    import tensorflow as tf

    from keras2gp.matrices import compiled

    tf.config.run_functions_eagerly(request.path.parent.name in EAGER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "XLA", False)
        yield
    tf.config.run_functions_eagerly(False)


STATES = {}
"""The state of each module's own generator, RANDOM, before the first of its tests."""


@pytest.fixture(autouse=True)
def same_numbers(request):
    """A module's RANDOM gives each test the same numbers, whatever ran before it."""
    generator = getattr(getattr(request.node, "module", None), "RANDOM", None)
    if generator is not None:
        name = request.node.module.__name__
        generator.bit_generator.state = STATES.setdefault(name, generator.bit_generator.state)


@pytest.fixture
def traced():
    """TensorFlow traces, in a folder where it does not."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(False)
    yield
    tf.config.run_functions_eagerly(before)


@pytest.fixture
def missing_tests(request):
    """Names in SMOKE and LONG that no test has; only a run of all of tests/ can say."""
    if request.config.args != request.config.getini("testpaths"):
        pytest.skip("only a run of all of tests/ collects every test")
    return request.config.stash[MISSING]


@pytest.fixture
def rng():
    return np.random.default_rng(20240501)
