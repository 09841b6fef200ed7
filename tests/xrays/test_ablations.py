"""Ablations: every one is a model that Keras builds, saves and loads, and it is what it says."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from xray_networks import HE, convnet, pooled, residual, series, stages

import keras2gp
from keras2gp.errors import InputError
from keras2gp.xrays.variants.ablations import ablations
from keras2gp.xrays.variants.subject import Subject, VariantConversion
from keras2gp.xrays.variants.wiring import Wiring, rebuilt

X = np.random.default_rng(0).normal(size=(3, 6, 6, 1))


def identity(model):
    """All that the values of a kernel depend on; layers have numbers in it, and no names."""
    kernel = keras2gp.convert(model)
    return kernel.program.identity(kernel.parameters)


def found(model, kinds=None):
    functional = model._functional if isinstance(model, keras.Sequential) else model
    parameters = keras2gp.convert(model).parameters
    return functional, {a.name: a for a in ablations(functional, parameters, kinds)}


def changed(model, name, kinds=None):
    functional, every = found(model, kinds)
    return rebuilt(functional, every[name].changes)


def hand_made(first_skip=True, norm=True, pool=True, blocks=(1, 2), twice=False, earlier=False):
    x = image = keras.Input((6, 6, 1))
    x = layers.Conv2D(4, 3, padding="same", kernel_initializer=HE)(x)
    for block in (*blocks, *((2,) if twice else ())):
        x = layers.AveragePooling2D(2)(x) if earlier and block == 2 else x
        y = layers.LayerNormalization()(x) if norm or block == 2 else x
        y = layers.Conv2D(4, 3, padding="same", kernel_initializer=HE)(layers.ReLU()(y))
        x = y if block == 1 and not first_skip else layers.Add()([x, y])
    x = layers.ReLU()(x)
    x = layers.AveragePooling2D(2)(x) if pool else x
    x = layers.Dense(4, "relu", kernel_initializer=HE)(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(2)(x))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("no skip into add1", {"first_skip": False}),
        ("no norm1", {"norm": False}),
        ("no pool", {"pool": False}),
        ("pool earlier", {"pool": False, "earlier": True}),
        ("block add2 left out", {"blocks": (1,)}),
        ("block add2 twice", {"twice": True}),
    ],
)
def test_an_ablation_is_the_network_without_that_part(name, settings):
    assert identity(changed(residual(), name)) == identity(hand_made(**settings))


def test_the_kinds_of_a_residual_network():
    names = set(found(residual())[1])
    wanted = {
        *("no skip into add1", "no skips", "no norm2", "no normalization", "no pool"),
        *(
            "pool as a stride",
            "pool earlier",
            "pooling at the end",
            "flat as an average",
            "padding valid",
        ),
        *("smaller windows", "larger windows", "windows of 1", "dilation 2", "hidden left out"),
        *("hidden twice", "stem twice", "block add2 left out", "gelu", "tanh", "linear"),
        "biases 0.1",
    }
    assert wanted <= names
    assert "conv1 left out" not in names, "a block without its layer is no block"
    assert "pool later" not in names, "behind the pooling there is a Flatten"


def test_a_copy_without_changes_has_the_same_kernel_and_other_weights():
    model = residual()
    copy = rebuilt(model, {})
    assert identity(model) == identity(copy)
    assert not np.array_equal(model.get_layer("stem").kernel, copy.get_layer("stem").kernel)
    assert model.get_layer("stem") is not copy.get_layer("stem")


def test_a_layer_is_named_with_what_goes_with_it():
    _, every = found(series(), ["depth"])
    both = "without the layer conv2, and norm behind it", "with the layer conv2, and norm behind it"
    assert [a.text for a in every.values()][2:] == [both[0], f"{both[1]}, twice"]


@pytest.mark.parametrize("given", ["one", "list", "dict"])
def test_a_copy_takes_what_its_model_takes(given, rng):
    """Keras warns where a model is called on an array and was built of a list of inputs."""
    image = keras.Input((2,), name="image")
    taken = {"one": image, "list": [image], "dict": {"image": image}}[given]
    copy = rebuilt(keras.Model(taken, layers.Dense(1, name="out")(image)), {})
    x = rng.normal(size=(3, 2)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = copy({"one": x, "list": [x], "dict": {"image": x}}[given])
    assert np.allclose(result, x @ copy.get_layer("out").kernel, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("make", [residual, convnet, stages, series], ids=lambda m: m.__name__)
def test_every_variant_is_saved_and_read_again(make, tmp_path):
    functional, every = found(make())
    for ablation in every.values():
        try:
            model = rebuilt(functional, ablation.changes)
        except InputError:
            assert ablation.name in ("padding valid", "conv2a left out", "project left out")
            continue
        model.save(tmp_path / "variant.keras")
        try:
            expected = identity(model)
        except keras2gp.UnsupportedModelError:
            continue
        assert identity(tmp_path / "variant.keras") == expected


def names_in_order(model):
    return [call.path for call in Wiring(model).calls]


def test_a_pooling_moves_past_a_nested_model_and_a_block_that_starts_with_an_activation():
    inner = keras.Sequential(
        [keras.Input((3, 3, 4)), layers.Conv2D(4, 3, padding="same")], name="in"
    )
    image = keras.Input((6, 6, 1))
    x = layers.AveragePooling2D(2, name="pool")(layers.Conv2D(4, 1, name="stem")(image))
    x = inner(layers.ReLU(name="relu")(x))
    one, two = (layers.Conv2D(4, k, padding="same", name=f"conv{k}")(x) for k in (1, 3))
    x = layers.Concatenate(name="both")([one, two])
    x = layers.GlobalAveragePooling2D(name="gap")(layers.ReLU(name="last")(x))
    model = keras.Model(image, layers.Dense(2, name="out")(x))
    later = changed(model, "pool later")
    assert names_in_order(later)[:4] == ["stem", "relu", "in", "pool"]
    assert later.get_layer("in").input_shape == (None, 6, 6, 4)
    again = changed(later, "pool later")
    assert names_in_order(again)[-4:] == ["last", "pool", "gap", "out"]
    assert identity(changed(again, "pool earlier")) == identity(later)
    assert names_in_order(changed(later, "pool earlier"))[:4] == ["stem", "relu", "pool", "in"]


def test_a_pooling_that_is_called_twice_moves_as_one():
    pool = layers.AveragePooling2D(2, padding="same", name="pool")
    x = image = keras.Input((6, 6, 1))
    for name in ("one", "two"):
        x = pool(layers.Conv2D(4, 3, activation="relu", padding="same", name=name)(x))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
    names = set(found(model, ["pooling"])[1])
    assert "pool earlier" in names
    assert "pool later" not in names, "the second has a Flatten behind it"
    moved = changed(model, "pool earlier")
    assert names_in_order(moved)[:4] == ["pool", "one", "pool", "two"]


def test_a_pooling_moves_past_the_whole_of_a_block_that_is_read_from_its_middle():
    """Past the inner sum it cannot: the outer one reads what is in front of it."""
    image = keras.Input((6, 6, 1))
    x = layers.AveragePooling2D(2, name="pool")(layers.Conv2D(4, 3, name="stem")(image))
    one = layers.Conv2D(4, 1, name="one")(x)
    two = layers.Conv2D(4, 1, name="two")(layers.ReLU(name="relu")(one))
    x = layers.Add(name="outer")([layers.Add(name="inner")([x, two]), one])
    x = layers.Flatten(name="flat")(layers.ReLU(name="last")(x))
    model = keras.Model(image, layers.Dense(2, name="out")(x))
    moved = names_in_order(changed(model, "pool later"))
    assert moved == ["stem", "one", "relu", "two", "inner", "outer", "last", "pool", "flat", "out"]
    both = layers.Concatenate()([x, layers.Flatten()(one)])
    model = keras.Model(image, layers.Dense(2)(both))
    assert "pool later" not in found(model, ["pooling"])[1], "a Flatten reads its middle"


def test_nested_models_shared_layers_and_operations():
    inner = keras.Sequential(
        [keras.Input((6, 6, 4)), layers.Conv2D(4, 3, padding="same", name="deep"), layers.ReLU()],
        name="inner",
    )
    shared = layers.Conv2D(4, 1, name="shared")
    image = keras.Input((6, 6, 1))
    one, other = (layers.Conv2D(4, 1, name=name)(image) for name in ("first", "second"))
    x = keras.ops.add(shared(inner(one)), shared(keras.ops.relu(other)))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(keras.ops.relu(x))))
    assert identity(rebuilt(model, {})) == identity(model)
    paths = [wiring.prefix for wiring in Wiring(model).nested()]
    assert paths == ["", "inner/"]
    wider = changed(model, "larger windows")
    assert wider.get_layer("inner").get_layer("deep").kernel_size == (5, 5)


def test_convolutions_at_the_border_of_what_can_be_built():
    names = found(pooled(), ["window", "padding", "pooling"])[1]
    assert set(names) == {"smaller windows", "larger windows", "padding valid", "pool as a Flatten"}
    assert changed(pooled(), "smaller windows").get_layer("conv").kernel_size == (1, 1)


def test_biases_follow_the_variances_that_are_there():
    law = keras.initializers.RandomNormal(stddev=2.0)
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(4, bias_initializer=law, name="a")]
    )
    every = found(model, ["bias"])[1]
    assert set(every) == {"no biases", "biases x 4", "biases / 4"}
    for name, expected in (("no biases", 0.0), ("biases x 4", 16.0), ("biases / 4", 1.0)):
        kernel = keras2gp.convert(changed(model, name, ["bias"]))
        assert kernel.parameters["a"].bias == pytest.approx(expected)


def test_variants_that_are_not_computed_say_why():
    subject = Subject(residual(), VariantConversion(None, "float64", {}), X)
    kinds = ["padding", "pooling", "window", "receptive field"]
    found = {v.name: v for v in subject.variants(kinds, {}, most_work=3.0)}
    assert "incompatible shapes" in found["padding valid"].reason
    assert found["pooling at the end"].same_as == "the model"
    assert found["windows of 1"].same_as == "smaller windows"
    assert "times the time of the model's" in found["flat as an average"].reason
    assert found["no pool"].reason == ""


def test_an_override_of_a_layer_that_a_variant_lacks():
    settings = VariantConversion({"hidden": (3.0, 0.5), "*": {"bias": 0.25}}, "float64", {})
    subject = Subject(residual(), settings, X)
    (variant,) = (v for v in subject.variants(["depth"]) if v.name == "hidden left out")
    assert variant.kernel.parameters["out"].bias == 0.25
    assert "hidden" not in variant.kernel.parameters


def test_a_model_that_is_code_has_variants_of_its_owner_alone():
    class Code(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(keras.ops.reshape(x, (-1, 36)))

    settings = VariantConversion(None, "float64", {"input_shape": (6, 6, 1)})
    other = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(2)])
    subject = Subject(Code(), settings, X)
    refused, own = subject.variants(own={"other": other})
    assert "code of its own" in refused.reason
    assert own.same_as == "the model"
    assert subject.graph == ()


def test_a_graph_whose_sizes_are_stated_later_has_variants(tmp_path):
    """Of a live model and of its file; copies have the stated sizes."""
    model = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(2),
        ]
    )
    model.save(tmp_path / "open.keras")
    for source in (model, tmp_path / "open.keras"):
        subject = Subject(source, VariantConversion(None, "float64", {"input_shape": (6, 6, 1)}), X)
        found = {v.name: v for v in subject.variants(["pooling", "padding"])}
        assert set(found) == {"pool as a Flatten", "padding same"}
        assert found["padding same"].kernel is not None
        assert found["pool as a Flatten"].model.input_shape == (None, 6, 6, 1)
        assert [row.path for row in subject.graph][:2] == ["conv", "pool"]


def test_kinds_are_checked():
    with pytest.raises(InputError, match="There are: skip, normalization"):
        list(ablations(residual(), {}, ["skips"]))
