"""The commands that compute no kernel, and the refusals, answer without TensorFlow."""

import argparse
import json

import numpy as np
import pytest

from keras2gp.cli.rows import images_to_predict
from keras2gp.errors import InputError
from keras2gp.fit_record import FitRecord, input_shape
from keras2gp.modelfile.sources import stated_input

KERNEL = [[2.0, 1.0], [1.0, 2.0]]
CONVERGENCE = {
    "model": "m", "verdict": "accepted", "kernel": KERNEL, "variance": 1.0, "error": 0.02,
    "levels": [{"width": width, "variance": 1.0, "error": 0.01, "covariance": KERNEL,
                "errors": KERNEL} for width in (64, 16)],
}  # fmt: skip
LEARNING = {
    "settings": {"test": 10, "data": "d"},
    "rows": {"a": {"paper": 0.01, "points": {"5": {"test_error": 0.2}}}},
}
TRIALS = (
    "trial,status,validation_error,leave_one_out_error,log_marginal_likelihood,jitter,"
    "kernel_seconds,solve_seconds,depth,reason\n"
    "0,fine,0.2,0.3,-5,0,1,1,2,\n"
    "1,fine,0.1,0.4,-6,0,1,1,3,\n"
)


def test_what_needs_no_kernel_does_not_wait_for_tensorflow(spawn, tmp_path):
    (tmp_path / "verify.json").write_text(json.dumps(CONVERGENCE))
    (tmp_path / "table1.json").write_text(json.dumps(LEARNING))
    (tmp_path / "trials.csv").write_text(TRIALS)
    (tmp_path / "broken.csv").write_text("trial,status\n0,fine\n")
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    np.savez(tmp_path / "few.npz", x=np.zeros((3, 6, 6, 1), np.uint8), y=np.arange(3))
    np.savez(tmp_path / "nameless.npz", pictures=np.zeros((3, 6, 6, 1), np.uint8))
    (tmp_path / "model.keras").touch()
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / "fit.json").write_text("{}")
    np.savez(tmp_path / "wide.npz", x=np.zeros((9, 6, 7, 1)), y=np.arange(9))
    np.savez(tmp_path / "right.npz", x=np.zeros((9, 6, 6)), y=np.arange(9))
    (tmp_path / "square" / "kernel").mkdir(parents=True)
    FitRecord("classification", "m", "sample", "sample", 3, "").write(tmp_path / "square")
    inputs = {"inputs": [{"name": "image", "shape": [6, 6, 1]}]}
    (tmp_path / "square" / "kernel" / "kernel.json").write_text(json.dumps(inputs))
    entrance = {"class_name": "InputLayer", "config": {"batch_shape": [None, 6, 6, 1]}}
    network = {"class_name": "Sequential", "config": {"layers": [entrance]}}
    (tmp_path / "network.json").write_text(json.dumps(network))
    fit = ["fit", "model.keras", "--train", "9", "--out", "out", "--data"]
    wide = ["network.json", "--data", "wide.npz"]
    lines = [
        (0, ["--version"]),
        (0, ["--help"]),
        (0, ["predict", "--help"]),
        (0, ["plot", "learning-curve", "table1.json", "--out", "a.png"]),
        (0, ["plot", "convergence", "verify.json", "--out", "b.svg"]),
        (0, ["plot", "trials", "trials.csv", "--out", "c.png", "--json"]),
        (2, ["plot", "trials", "none.csv", "--out", "d.png"]),
        (5, ["plot", "trials", "broken.csv", "--out", "d.png"]),
        (2, ["gram", "zoo:vgg", "--data", "sample", "--out", "K.zarr"]),
        (4, ["inspect", "none.keras"]),
        (4, ["predict", "fit", "--data", "sample", "--out", "p.csv"]),
        (4, ["evaluate", "fit", "--data", "sample", "--test", "9"]),
        (4, ["export", "fit", "served"]),
        (5, ["predict", "square", "--data", "wide.npz", "--out", "p.csv"]),
        (5, ["evaluate", "square", "--data", "wide.npz", "--test", "9"]),
        (5, ["evaluate", "square", "--data", "right.npz", "--test", "9", "--ood", "wide.npz"]),
        (5, ["fit", *wide, "--train", "9", "--out", "out"]),
        (5, ["fit", "square/kernel", *wide[1:], "--train", "9", "--out", "out"]),
        (5, ["gram", *wide, "--out", "K.zarr"]),
        (5, ["verify", *wide]),
        (5, ["tune", *wide, "--train", "9", "--out", "tuned.yaml"]),
        (5, ["xray", *wide, "--train", "6", "--test", "3", "--subsets", "2", "--out", "x"]),
        (5, ["plot", "kernel", *wide, "--out", "e.png"]),
        (5, [*fit, "none.npz"]),
        (5, [*fit, "broken.npz"]),
        (5, [*fit, "nameless.npz"]),
        (5, [*fit, "few.npz"]),
    ]
    program = (
        "import json, sys\n"
        "from keras2gp.cli.main import main\n"
        "found = []\n"
        "for _, line in json.loads(sys.argv[1]):\n"
        "    code = main(line)\n"
        "    found.append([code, 'tensorflow' in sys.modules or 'keras' in sys.modules])\n"
        "open('result.json', 'w').write(json.dumps(found))\n"
    )
    done = spawn("-c", program, json.dumps(lines), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("6, 7, 1), expected (N, 6, 6, 1)") == 10
    found = json.loads((tmp_path / "result.json").read_text())
    for (code, line), (actual, started) in zip(lines, found, strict=True):
        assert not started, f"keras2gp {' '.join(line)} started TensorFlow"
        assert actual == code, f"keras2gp {' '.join(line)}: {actual}\n{done.stderr}"


@pytest.mark.parametrize(
    ("stated", "shape"),
    [
        ({"inputs": [{"name": "a", "shape": [6, None, 1]}]}, (6, None, 1)),
        ({"inputs": [{"name": "a", "shape": [3], "dtype": "int32"}]}, None),
        ({"inputs": [{"name": "a", "shape": [3]}, {"name": "b", "shape": [3]}]}, None),
        ({"inputs": [{"name": "a", "shape": ["3"]}]}, None),
        ({"inputs": 3}, None),
        ([], None),
    ],
)
def test_the_shape_that_a_fit_takes_is_read_or_left_to_its_load(stated, shape, tmp_path):
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "kernel.json").write_text(json.dumps(stated))
    assert input_shape(tmp_path / "kernel") == shape
    (tmp_path / "kernel" / "kernel.json").write_text("{")
    assert input_shape(tmp_path / "kernel") is None
    assert input_shape(tmp_path / "none") is None


def config_of(*entrances):
    layers = [{"class_name": "InputLayer", "config": entrance} for entrance in entrances]
    layers.append({"class_name": "Dense", "config": {"units": 1}})
    return {"class_name": "Functional", "config": {"layers": layers}}


@pytest.mark.parametrize(
    ("stated", "shape"),
    [
        (config_of({"batch_shape": [None, 6, None, 1], "dtype": "float32"}), (6, None, 1)),
        (config_of({"batch_input_shape": [None, 3]}), (3,)),
        (config_of({"batch_shape": [None, 3], "dtype": "int32"}), None),
        (config_of({"batch_shape": [None, 3], "sparse": True}), None),
        (config_of({"batch_shape": [None, 3]}, {"batch_shape": [None, 3]}), None),
        (config_of({"batch_shape": [None, "3"]}), None),
        (config_of({"batch_shape": None}), None),
        (config_of({}), None),
        (config_of(), None),
        ({"class_name": "Functional", "config": {"layers": 3}}, None),
        ([], None),
    ],
)
def test_the_shape_that_a_model_takes_is_read_or_left_to_its_conversion(stated, shape, tmp_path):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(stated))
    assert stated_input(path) == shape
    path.write_text("{")
    assert stated_input(path) is None
    assert stated_input(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    ("expected", "received"),
    [
        ((6, 6, 1), (4, 6, 6)),
        ((6, 6, 1), (4, 6, 6, 1)),
        ((36,), (4, 6, 6)),
        ((6, None, 1), (4, 6, 9, 1)),
    ],
)
def test_shapes_that_a_fit_takes_pass(expected, received, tmp_path):
    """As in the session, which adds an axis of channels and flattens images for vectors."""
    (tmp_path / "kernel").mkdir()
    state = {"inputs": [{"name": "a", "shape": expected}]}
    (tmp_path / "kernel" / "kernel.json").write_text(json.dumps(state))
    np.save(tmp_path / "x.npy", np.zeros(received))
    options = {"fit": tmp_path, "data": str(tmp_path / "x.npy"), "download": False, "limit": None}
    record = FitRecord("regression", "m", "d", "d", 3, "")
    options = argparse.Namespace(**options, target=None, record=record)
    assert images_to_predict(options).x.shape == received
    state["inputs"][0]["shape"] = (5, *expected[1:])
    (tmp_path / "kernel" / "kernel.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="images: received shape"):
        images_to_predict(options)
