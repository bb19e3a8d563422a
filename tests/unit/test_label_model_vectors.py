"""Steps on several numbers at once: as exact as the usual ones, wherever a number stands."""

import numpy as np
import numpy.typing as npt
import pytest

from models.label_model.compiling import compiled
from models.label_model.vectors import FEW, LANES, add_few, add_four, exponentials, lanes, log_few

FloatArray = npt.NDArray[np.float64]


@compiled
def raised(values: FloatArray, n: int) -> None:
    exponentials(values, n)


@compiled
def reduced(values: FloatArray) -> None:
    for j in range(0, len(values), FEW):
        log_few(values, j)


@compiled
def added(values: FloatArray, place: int, more: FloatArray, place_of_more: int) -> None:
    add_few(values, place, more, place_of_more)


@compiled
def added_numbers(values: FloatArray, place: int) -> None:
    add_four(values, np.uint64(place), 1.0, 20.0, 300.0, 4000.0)


@pytest.mark.parametrize("n", [0, 1, 3, 8, 13, 1000])
def test_e_is_raised_to_each_value(n: int) -> None:
    given = np.random.default_rng(n).uniform(-40.0, 40.0, n)
    values = np.zeros(lanes(n))
    values[:n] = given
    raised(values, n)
    np.testing.assert_allclose(values[:n], np.exp(given), rtol=1e-15)


def test_e_to_the_bounds_has_a_number() -> None:
    values = np.array([0.0, -np.inf, -1e300, np.inf, 1e300, -745.0, 1e-300, -1e-17])
    raised(values, len(values))
    assert np.isfinite(values).all()
    assert (values > 0.0).all()
    assert values[0] == values[6] == 1.0


def test_what_comes_of_a_value_does_not_depend_on_its_place() -> None:
    given = np.random.default_rng(0).uniform(-40.0, 0.0, 64)
    straight, turned = given.copy(), np.roll(given, 3)
    raised(straight, len(given))
    raised(turned, len(given))
    assert np.array_equal(np.roll(straight, 3), turned)


def test_logarithms_are_exact_for_small_and_for_usual_numbers() -> None:
    rng = np.random.default_rng(0)
    given = np.concatenate([10.0 ** rng.uniform(-150, 2, 400), rng.uniform(0.5, 2.0, 400)])
    values = given.copy()
    reduced(values)
    np.testing.assert_allclose(values, np.log(given), rtol=1e-15, atol=1e-17)
    ones = np.ones(FEW)
    reduced(ones)
    assert ones.tolist() == [0.0] * FEW


def test_few_cells_are_added_in_one_row_of_cells() -> None:
    values, more = np.arange(12.0).reshape(3, 4), 100.0 * np.arange(1.0, 9.0).reshape(2, 4)
    added(values, 5, more, 2)
    expected = np.arange(12.0)
    expected[5 : 5 + FEW] += 100.0 * np.arange(3.0, 3.0 + FEW)
    assert values.ravel().tolist() == expected.tolist()
    assert lanes(0) == 0
    assert lanes(1) == lanes(LANES) == LANES


def test_four_numbers_are_added_to_four_cells() -> None:
    values = np.ones((3, 4))
    added_numbers(values, 4)
    assert values.tolist() == [[1.0] * 4, [2.0, 21.0, 301.0, 4001.0], [1.0] * 4]
