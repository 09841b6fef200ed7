"""Every variant of three models, call by call: it is what its name says, and nothing else."""

from dataclasses import dataclass, field

import keras
import pytest
from keras import layers
from xray_networks import convnet, series, stages

import keras2gp
from keras2gp.errors import InputError
from keras2gp.xrays.variants.ablations import ablations
from keras2gp.xrays.variants.wiring import Wiring, rebuilt

SETTINGS = ("kernel_size", "strides", "padding", "dilation_rate", "pool_size", "use_bias")


@dataclass
class Edit:
    """The change of a variant.

    Attributes:
        gone: calls, whose readers read what they read.
        reads: calls, new ones too, and all that they read.
        made: settings of calls by name; "like" is the call that a new one copies.
    """

    gone: str = ""
    reads: dict = field(default_factory=dict)
    made: dict = field(default_factory=dict)


def facts_of(model):
    """Of every call the layer, its settings, and the names of the calls that it reads."""
    functional = model._functional if isinstance(model, keras.Sequential) else model
    calls = Wiring(functional).calls
    found = {}
    for call in calls:
        config = call.operation.get_config()
        settings = {name: config[name] for name in SETTINGS if name in config}
        settings["activation"] = config.get("activation", "linear")
        if isinstance(call.operation, layers.ReLU):
            settings["activation"] = "relu"
        if config.get("use_bias"):
            law = config["bias_initializer"]["config"]
            settings["bias"] = round(law.get("stddev", 0.0) ** 2, 6)
        kind = type(call.operation).__name__.replace("ReLU", "Activation")
        sources = tuple("input" if i < 0 else calls[i].path for i in call.sources)
        found[call.path] = [kind, settings, sources]
    return found


def edited(model, edit):
    """The facts of a model after an edit, in which calls that nothing reads are left out."""
    facts = facts_of(model)
    last = list(facts)[-1]
    for name in edit.gone.split():
        (source,) = set(facts.pop(name)[2])
        for entry in facts.values():
            entry[2] = tuple(source if s == name else s for s in entry[2])
    for name, settings in edit.made.items():
        kind, old, sources = facts[settings.get("like", name)]
        new = {k: v for k, v in settings.items() if k not in ("like", "kind")}
        facts[name] = [settings.get("kind", kind), {**old, **new}, sources]
    for name, sources in edit.reads.items():
        facts[name][2] = tuple(sources.split())
    needed, waiting = set(), [last]
    while waiting:
        name = waiting.pop()
        if name != "input" and name not in needed:
            needed.add(name)
            waiting += facts[name][2]
    return {name: entry for name, entry in facts.items() if name in needed}


def each(names, **settings):
    return Edit(made={name: dict(settings) for name in names.split()})


def again(*names):
    """Copies of calls; a copied convolution moves by one position."""
    return {f"{name}_again": {"like": name} for name in names}


CONVNET = {
    "no bn": Edit("bn"),
    "no pool1": Edit("pool1"),
    "no pool2": Edit("pool2"),
    "no pooling": Edit("pool1 pool2"),
    "pool1 as a stride": each("pool1", pool_size=(1, 1)),
    "pool2 as a stride": each("pool2", pool_size=(1, 1)),
    "pool1 earlier": Edit(reads={"pool1": "input", "conv1": "pool1", "conv2": "conv1"}),
    "pool1 later": Edit(reads={"conv2": "conv1", "pool1": "relu", "pool2": "pool1"}),
    "pool2 earlier": Edit(reads={"pool2": "pool1", "conv2": "pool2", "drop": "relu"}),
    "pool2 later": Edit(reads={"drop": "relu", "pool2": "conv3", "flat": "pool2"}),
    "pooling at the end": Edit(
        reads={
            "conv2": "conv1",
            "drop": "relu",
            "pool1": "conv3",
            "pool2": "pool1",
            "flat": "pool2",
        }
    ),
    "flat as an average": each("flat", kind="GlobalAveragePooling2D"),
    "smaller windows": each("conv1 conv2 conv3", kernel_size=(1, 1)),
    "windows of 1": each("conv1 conv2 conv3", kernel_size=(1, 1)),
    "larger windows": each("conv1 conv2 conv3", kernel_size=(5, 5)),
    "dilation 2": each("conv1 conv2 conv3", dilation_rate=(2, 2)),
    "padding valid": None,
    "conv1 left out": Edit("conv1"),
    "conv2 left out": Edit("conv2 bn relu"),
    "conv3 left out": Edit("conv3"),
    "hidden left out": Edit("hidden"),
    "conv1 twice": Edit(
        made=again("conv1"), reads={"conv1_again": "conv1", "pool1": "conv1_again"}
    ),
    "conv2 twice": Edit(
        made=again("conv2", "bn", "relu"),
        reads={
            "conv2_again": "relu",
            "bn_again": "conv2_again",
            "relu_again": "bn_again",
            "pool2": "relu_again",
        },
    ),
    "conv3 twice": Edit(made=again("conv3"), reads={"conv3_again": "conv3", "flat": "conv3_again"}),
    "hidden twice": Edit(
        made=again("hidden"), reads={"hidden_again": "hidden", "out": "hidden_again"}
    ),
    **{
        name: each("conv1 relu conv3 hidden", activation=name)
        for name in ("gelu", "tanh", "linear")
    },
    "biases 0.1": each("conv1 conv2 conv3 hidden out", bias=0.1),
}
STAGES = {
    "no skip into add1": Edit(reads={"bn2": "conv1b", "project": "conv1b"}),
    "no skip into add2": Edit(reads={"last": "conv2b"}),
    "no skips": Edit(reads={"bn2": "conv1b", "last": "conv2b"}),
    "no bn1": Edit("bn1"),
    "no bn2": Edit("bn2"),
    "no normalization": Edit("bn1 bn2"),
    "no pool": Edit("pool"),
    "pool as a stride": each("pool", pool_size=(1, 1)),
    "pool earlier": Edit(
        reads={"pool": "input", "stem": "pool", "bn1": "stem", "add1": "stem conv1b"}
    ),
    "pool later": Edit(
        reads={
            "bn1": "stem",
            "add1": "stem conv1b",
            "pool": "add1",
            "bn2": "pool",
            "project": "pool",
        }
    ),
    "gap as a Flatten": each("gap", kind="Flatten"),
    "stride 1": each("conv2a project", strides=(1, 1)),
    "padding valid": None,
    "padding valid outside of blocks": each("stem", padding="valid"),
    "smaller windows": each("stem conv1a conv1b conv2a conv2b", kernel_size=(1, 1)),
    "windows of 1": each("stem conv1a conv1b conv2a conv2b", kernel_size=(1, 1)),
    "larger windows": each("stem conv1a conv1b conv2a conv2b", kernel_size=(5, 5)),
    "dilation 2": each("stem conv1a conv1b conv2b", dilation_rate=(2, 2)),
    "stem left out": Edit("stem"),
    "stem twice": Edit(made=again("stem"), reads={"stem_again": "stem", "pool": "stem_again"}),
    "conv1a left out": Edit("conv1a relu1b"),
    "conv1a twice": Edit(
        made=again("conv1a", "relu1b"),
        reads={
            "conv1a_again": "relu1b",
            "relu1b_again": "conv1a_again",
            "conv1b": "relu1b_again",
        },
    ),
    "conv1b left out": Edit("conv1b"),
    "conv1b twice": Edit(
        made=again("conv1b"), reads={"conv1b_again": "conv1b", "add1": "pool conv1b_again"}
    ),
    "conv2a left out": None,
    "conv2a twice": Edit(
        made={"conv2a_again": {"like": "conv2a", "strides": (1, 1)}, **again("relu2b")},
        reads={
            "conv2a_again": "relu2b",
            "relu2b_again": "conv2a_again",
            "conv2b": "relu2b_again",
        },
    ),
    "conv2b left out": Edit("conv2b"),
    "conv2b twice": Edit(
        made=again("conv2b"), reads={"conv2b_again": "conv2b", "add2": "project conv2b_again"}
    ),
    "project left out": None,
    "project twice": Edit(
        made={"project_again": {"like": "project", "strides": (1, 1)}},
        reads={"project_again": "project", "add2": "project_again conv2b"},
    ),
    "block add1 left out": Edit(reads={"bn2": "pool", "project": "pool"}),
    "block add1 twice": Edit(
        made=again("bn1", "relu1a", "conv1a", "relu1b", "conv1b", "add1"),
        reads={
            "bn1_again": "add1",
            "relu1a_again": "bn1_again",
            "conv1a_again": "relu1a_again",
            "relu1b_again": "conv1a_again",
            "conv1b_again": "relu1b_again",
            "add1_again": "add1 conv1b_again",
            "bn2": "add1_again",
            "project": "add1_again",
        },
    ),
    "block add2 left out": Edit(reads={"last": "project"}),
    **{
        name: each("relu1a relu1b relu2a relu2b last", activation=name)
        for name in ("gelu", "tanh", "linear")
    },
    "biases 0.1": each("stem conv1a conv1b conv2a project conv2b out", bias=0.1),
}
SERIES = {
    "no norm": Edit("norm"),
    "no pool": Edit("pool"),
    "pool as a stride": each("pool", pool_size=(1,)),
    "pool earlier": Edit(reads={"pool": "input", "conv1": "pool", "conv2": "conv1"}),
    "pool later": Edit(reads={"conv2": "conv1", "pool": "norm", "gap": "pool"}),
    "gap as a Flatten": each("gap", kind="Flatten"),
    "stride 1": each("conv2", strides=(1,)),
    "padding same": each("conv1 conv2", padding="same"),
    "smaller windows": each("conv1 conv2", kernel_size=(3,)),
    "larger windows": each("conv1 conv2", kernel_size=(7,)),
    "windows of 1": each("conv1 conv2", kernel_size=(1,)),
    "dilation 2": each("conv1", dilation_rate=(2,)),
    "conv1 left out": Edit("conv1"),
    "conv1 twice": Edit(made=again("conv1"), reads={"conv1_again": "conv1", "pool": "conv1_again"}),
    "conv2 left out": Edit("conv2 norm"),
    "conv2 twice": Edit(
        made={"conv2_again": {"like": "conv2", "strides": (1,)}, **again("norm")},
        reads={"conv2_again": "norm", "norm_again": "conv2_again", "gap": "norm_again"},
    ),
    **{name: each("conv1 conv2", activation=name) for name in ("relu", "gelu", "linear")},
    "no biases": each("conv1 conv2 out", use_bias=False),
    "biases x 4": each("conv1 conv2 out", bias=0.16),
    "biases / 4": each("conv1 conv2 out", bias=0.01),
}
EXPECTED = {convnet: CONVNET, stages: STAGES, series: SERIES}


def found(make):
    model = make()
    functional = model._functional if isinstance(model, keras.Sequential) else model
    every = ablations(functional, keras2gp.convert(model).parameters)
    return model, functional, {a.name: a for a in every}


def plain(facts):
    """Facts without the variance of biases that are not there."""
    for _, settings, _ in facts.values():
        if not settings.get("use_bias"):
            settings.pop("bias", None)
        for name in ("kernel_size", "strides", "pool_size", "dilation_rate"):
            if name in settings:
                settings[name] = tuple(settings[name])
    return facts


@pytest.mark.parametrize(
    "make",
    [convnet, series, pytest.param(stages, marks=pytest.mark.slow)],
    ids=lambda m: m.__name__,
)
def test_every_variant_is_what_its_name_says(make):
    model, functional, every = found(make)
    assert set(every) == set(EXPECTED[make])
    for name, ablation in every.items():
        edit = EXPECTED[make][name]
        if edit is None:
            with pytest.raises(InputError):
                rebuilt(functional, ablation.changes)
            continue
        variant = plain(facts_of(rebuilt(functional, ablation.changes)))
        assert variant == plain(edited(model, edit)), name
