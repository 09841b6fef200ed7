"""The checks of single arguments: whole numbers, and names that stand twice."""

from itertools import chain

import numpy as np
import pytest

from keras2gp._util.checks import whole_number
from keras2gp._util.text import repeated
from keras2gp.errors import InputError, PriorError


def test_integers_of_python_and_numpy():
    for value in (3, np.int64(3), np.uint8(3)):
        received = whole_number("n", value, 1, 3)
        assert received == 3
        assert type(received) is int


@pytest.mark.parametrize("value", [
    True, np.True_, 3.0, np.float64(3), "3", None, 0, 4, 10**5000, np.arange(3), np.nan, [3],
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_everything_else_is_refused_in_one_short_line(value):
    with pytest.raises(InputError, match="expected a whole number, from 1 to 3") as error:
        whole_number("count", value, 1, 3)
    assert str(error.value).startswith("count=")
    assert len(str(error.value)) < 150
    assert "\n" not in str(error.value)


def test_the_class_of_the_error():
    with pytest.raises(PriorError, match=r"fan_in=-1: expected a whole number, 0 or more"):
        whole_number("fan_in", -1, error=PriorError)


def test_the_first_name_that_stands_twice():
    assert repeated(["a", "b", "b", "a"]) == "b"
    assert repeated([]) is repeated(["a", ""]) is None
    reads = iter(range(10**6))
    assert repeated([*range(300_000), 5]) == 5
    assert repeated(chain([0], reads)) == 0
    assert next(reads) == 1  # it reads no further than it has to
