"""verify() accepts the kernels of the zoo, and of small models from keras.applications' builders.

Seeds are fixed; see test_verify.py for how rarely a new one would fail.
"""

import pytest
from keras.src.applications import convnext, resnet

import keras2gp
from keras2gp.zoo import ZOO, build

SHAPE = (32, 32, 3)
SMALL = {"weights": None, "input_shape": SHAPE, "classes": 10}


def convnext_small():
    dims, depths = (8, 16, 24, 32), (1, 1, 1, 1)
    return convnext.ConvNeXt(depths, dims, layer_scale_init_value=1.0, **SMALL)


def resnet_v2_small():
    def stacks(x):
        x = resnet.stack_residual_blocks_v2(x, 8, 2, name="conv2")
        return resnet.stack_residual_blocks_v2(x, 16, 2, stride1=1, name="conv3")

    return resnet.ResNet(stacks, preact=True, use_bias=True, **SMALL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("small", "widths", "samples"),
    [(convnext_small, (4, 8, 32), 100), (resnet_v2_small, (8, 16, 64), 200)],
)
def test_the_kernel_is_accepted(small, widths, samples):
    report = keras2gp.verify(small(), widths=widths, samples=samples, max_pooling="average")
    assert report.accepted, report


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_is_accepted(name):
    """With the defaults, on small images."""
    report = keras2gp.verify(build(name, (8, 8, 1)))
    assert report.accepted, report
