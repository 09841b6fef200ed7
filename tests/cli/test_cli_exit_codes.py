"""Each family of errors has its exit code, and one message."""

import errno
import json

import pytest

from keras2gp import errors
from keras2gp.cli import loading
from keras2gp.cli.exit_codes import MEANINGS, ExitCode, UsageError, exit_code_of


class ResourceExhaustedError(Exception):
    """Has the name of TensorFlow's."""


CASES = [
    (UsageError("no"), 2),
    (errors.UnsupportedModelError("m", [errors.Obstacle("a", "b", "c")]), 3),
    (errors.WideningError("no"), 3),
    (errors.ModelFileError("no"), 4),
    (errors.PriorError("no"), 5),
    (errors.InputError("no"), 5),
    (errors.InputTypeError("no"), 5),
    (errors.OutputError("no", ["no", "other"]), 5),
    (errors.DataError("no"), 5),
    (errors.NumericalError("no"), 6),
    (errors.StoreError("no"), 7),
    (OSError(errno.ENOSPC, "full"), 7),
    (PermissionError(errno.EACCES, "no"), 7),
    (MemoryError(), 7),
    (ResourceExhaustedError("no"), 7),
    (errors.GraphError("no"), 1),
    (errors.MissingLibraryError("no"), 1),
    (errors.RegistryError("no"), 1),
    (errors.WorkerError("no"), 1),
    (ZeroDivisionError("no"), 1),
    (KeyboardInterrupt(), 130),
    (BrokenPipeError(), 141),
]


@pytest.mark.parametrize(("error", "code"), CASES, ids=lambda v: type(v).__name__)
def test_code_of_an_error(error, code):
    assert exit_code_of(error) == code


def test_every_error_of_the_package_has_a_case():
    cases = {type(error) for error, _ in CASES}
    own = {getattr(errors, name) for name in errors.__all__ if name.endswith("Error")}
    assert own - cases == {errors.Keras2GPError, errors.NotFittedError}


def test_every_code_has_a_meaning():
    assert set(MEANINGS) == set(ExitCode)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_full_disk_behind_another_error_is_a_full_disk(number):
    error = errors.ModelFileError("cannot be written")
    error.__cause__ = OSError(number, "full")
    assert exit_code_of(error) == ExitCode.STORAGE


@pytest.mark.parametrize(("error", "code"), CASES[:-1], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_the_user_sees(error, code, as_json, files, run, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr(loading, "start_tensorflow", fail)
    flags = ["--json"] if as_json else []
    found, out, err = run("inspect", files / "tiny.keras", *flags)
    assert found == code
    if as_json:
        document = json.loads(out)["error"]
        assert document["exit_code"] == code
        assert document["type"] == type(error).__name__
        assert not err
        return
    assert not out
    defect = code == 1 and not isinstance(error, errors.Keras2GPError)
    assert ("Traceback" in err) == defect
    assert str(error) in err


def test_a_usage_error_is_a_json_document_too(run_json):
    code, document = run_json("fit", "model.keras")
    assert code == document["error"]["exit_code"] == 2
    assert "--data" in document["error"]["message"]
