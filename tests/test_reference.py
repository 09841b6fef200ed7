"""The kernels that an independent implementation gives for the models in the shared folder."""

from pathlib import Path

import numpy as np
import pytest

import keras2gp

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "reference"
NAMES = sorted(path.stem for path in FOLDER.glob("*.keras"))

pytestmark = pytest.mark.skipif(not NAMES, reason="no reference kernels next to this checkout")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 2e-5)])
def test_agrees_with_the_reference(name, dtype, tolerance):
    expected = np.load(FOLDER / f"{name}.npz")
    kernel = keras2gp.convert(FOLDER / f"{name}.keras", dtype=dtype)
    x1, x2 = expected["x1"], expected["x2"]
    np.testing.assert_allclose(kernel(x1, x2), expected["nngp_12"], rtol=tolerance, atol=0)
    np.testing.assert_allclose(kernel(x1), expected["nngp_11"], rtol=tolerance, atol=0)
    np.testing.assert_allclose(kernel.diag(x1), expected["nngp_11"].diagonal(), rtol=tolerance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 2e-5)])
def test_the_tangent_kernel_agrees_too(name, dtype, tolerance):
    expected = np.load(FOLDER / f"{name}.npz")
    kernel = keras2gp.convert(FOLDER / f"{name}.keras", dtype=dtype)
    x1, x2 = expected["x1"], expected["x2"]
    nngp, ntk = kernel(x1, x2, get="both")
    np.testing.assert_allclose(nngp, expected["nngp_12"], rtol=tolerance, atol=0)
    np.testing.assert_allclose(ntk, expected["ntk_12"], rtol=tolerance, atol=0)
    # On its diagonal the other implementation takes arccos of a number next to 1.
    ours, theirs = np.asarray(kernel(x1, get="ntk")), expected["ntk_11"]
    np.testing.assert_allclose(ours, theirs, rtol=max(tolerance, 1e-8), atol=0)
    off = ~np.eye(len(x1), dtype=bool)
    np.testing.assert_allclose(ours[off], theirs[off], rtol=tolerance, atol=0)
    np.testing.assert_allclose(kernel.diag(x1, get="ntk"), ours.diagonal(), rtol=1e-6)
