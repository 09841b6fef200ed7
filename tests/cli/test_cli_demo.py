"""demo: small, and honest about the network that it shows."""

import keras

from keras2gp.cli.commands import demo


def test_demo(run, run_json):
    code, out, err = run("demo", "--train", "100", "--test", "50")
    assert (code, err) == (0, "")
    for text in ("convolution 5x5", "pairs/s", "error", "ECE"):
        assert text in out
    code, document = run_json("demo", "--train", "100", "--test", "50")
    assert code == 0
    assert document["measures"]["error_rate"] < 0.5
    assert document["test_rows"] == 50


def test_more_digits_than_there_are(run):
    code, out, err = run("demo", "--train", "5000")
    assert (code, out) == (5, "")
    assert "5000" in err


def test_the_network_shown_is_the_network_converted():
    scope = {"keras": keras, **vars(keras.layers)}
    exec(demo._MODEL, scope)  # noqa: S102
    shown, used = scope["model"], demo._network()

    def settings(model):
        configs = [layer.get_config() for layer in model.layers]
        return [{k: v for k, v in c.items() if k not in ("name", "dtype")} for c in configs]

    assert settings(shown) == settings(used)
    assert shown.input_shape == used.input_shape
