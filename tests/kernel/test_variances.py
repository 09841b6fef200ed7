"""Layers by name or pattern, and changes of their variances."""

import pytest

from keras2gp.errors import PriorError
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.variances import changed_variances, matching

LAYERS = ("conv_1", "conv_2", "Conv_1", "block/conv_1", "[ab]")

MATCHED = {
    "*": LAYERS,
    "conv_1": ("conv_1",),
    "conv_?": ("conv_1", "conv_2"),
    "*conv_[12]": ("conv_1", "conv_2", "block/conv_1"),
    "*conv_[!1]": ("conv_2",),
    "C*": ("Conv_1",),
    "[ab]": (),
    "[[]ab]": ("[ab]",),
    "dense": (),
    "": (),
}


@pytest.mark.parametrize("pattern", MATCHED)
def test_patterns_match_whole_names_in_the_order_of_the_layers(pattern):
    assert matching(pattern, LAYERS) == list(MATCHED[pattern])
    assert matching(pattern, iter(LAYERS)) == list(MATCHED[pattern])


@pytest.mark.parametrize("pattern", [None, 1, ("conv_1",), b"conv_1"])
def test_only_text_matches(pattern):
    assert matching(pattern, LAYERS) == []


def test_a_name_comes_before_the_pattern_that_it_is_too():
    before = dict.fromkeys(("[ab]", "a", "b"), LayerVariances(2.0, 0.5))
    after = changed_variances(before, {"[ab]": {"weight": 3.0}})
    assert after == {**before, "[ab]": LayerVariances(3.0, 0.5)}
    after = changed_variances(before, {"?": {"bias": 0.0}})
    assert after == {**before, "a": LayerVariances(2.0, 0.0), "b": LayerVariances(2.0, 0.0)}


@pytest.mark.parametrize("name", ["c", "c*", 1, None])
def test_a_name_that_matches_no_layer_is_refused(name):
    with pytest.raises(PriorError, match="no layer of this kernel"):
        changed_variances({"a": LayerVariances(2.0)}, {name: (1.0, 1.0)})
