"""Reading what callers give a label model: votes, labels, names and priors, checked at the door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.base import ABSTAIN
from models.label_model.layout import CROWD, LF, Config, FloatArray

__all__ = [
    "FORMS",
    "class_code",
    "form_code",
    "read_column",
    "read_column_priors",
    "read_labels",
    "read_prior",
    "read_row",
    "read_votes",
    "require_known",
]

FORMS = {"lf": LF, "crowd": CROWD}
"""The number of each form."""


def form_code(form: str) -> int:
    """Return the number of a form."""
    if form not in FORMS:
        message = f"form must be one of {sorted(FORMS)}, not {form!r}"
        raise ValueError(message)
    return FORMS[form]


def require_known(lfs: Sequence[str], **given: Mapping[str, Any] | None) -> None:
    """Refuse what is said of columns that there are not, by the name of the argument."""
    if isinstance(lfs, str):
        message = f"lfs must be a sequence of names, not {lfs!r}"
        raise ValueError(message)
    for argument, by_name in given.items():
        unknown = set(by_name or {}) - set(lfs)
        if unknown:
            message = f"{argument} names {sorted(unknown)}, which lfs do not"
            raise ValueError(message)


def read_prior(
    prior: Sequence[float] | Mapping[str, float] | None, classes: tuple[str, ...]
) -> FloatArray:
    """Return a class balance that sums to 1; uniform for None."""
    if prior is None:
        return np.full(len(classes), 1.0 / len(classes))
    if isinstance(prior, Mapping):
        # A class that is left out has no share, one that is not there has a name of its own.
        named = dict.fromkeys(classes, 0.0) | dict(prior)
        given = list(named.values())
    else:
        given = list(prior)
    array = np.array(given, dtype=np.float64)
    if array.shape != (len(classes),) or not np.isfinite(array).all() or (array <= 0).any():
        message = f"prior must give each of {classes} a positive share, not {prior}"
        raise ValueError(message)
    return np.asarray(array / array.sum())


def read_votes(
    votes: npt.ArrayLike, columns: int, classes: tuple[str, ...]
) -> npt.NDArray[np.int8]:
    """Return (n, columns) votes; refuse what is neither a class position nor an abstention."""
    given = np.asarray(votes)
    if given.shape == (0,):
        given = given.reshape(0, columns)
    if given.shape[1:] != (columns,):
        message = f"votes must be (n, {columns}), not {given.shape}"
        raise ValueError(message)
    if given.size:
        _check_votes(given, len(classes))
    return np.ascontiguousarray(given, dtype=np.int8)


def _check_votes(given: npt.NDArray[Any], n_classes: int) -> None:
    if given.dtype.kind not in "iuf":
        message = f"votes must be whole numbers, not {given.dtype}: {given.flat[0]!r}"
        raise ValueError(message)
    # The extremes tell, without another array; NaN passes through both of them.
    if ABSTAIN <= given.min() and given.max() < n_classes and given.dtype.kind != "f":
        return
    wrong = ~((given >= ABSTAIN) & (given < n_classes) & (given == np.trunc(given)))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        message = (
            f"votes[{row}, {column}] is {given[row, column]}; allowed: {ABSTAIN} (abstains), or "
            f"the position of a class, 0 to {n_classes - 1}"
        )
        raise ValueError(message)


def class_code(label: Any, classes: tuple[str, ...], what: str = "a class") -> int:
    """Return the position of a class given by name or position; -1 for None and `ABSTAIN`.

    Raises
    ------
    ValueError
        For what is no class.
    """
    if label is None:
        return ABSTAIN
    if label in classes:
        return classes.index(label)
    whole = isinstance(label, int | np.integer) or (
        isinstance(label, float | np.floating) and float(label).is_integer()
    )
    if whole and ABSTAIN <= label < len(classes):
        return int(label)
    allowed = ", ".join(map(repr, classes))
    message = f"{what} must be one of {allowed}, or a position in them; found {label!r}"
    raise ValueError(message)


def read_labels(labels: npt.ArrayLike, classes: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return positions of labels given by name or position, each one a class."""
    codes = []
    for place, label in enumerate(np.asarray(labels).ravel().tolist()):
        code = class_code(label, classes, f"labels[{place}]")
        if code < 0:
            message = f"labels[{place}] is none; allowed: {', '.join(map(repr, classes))}"
            raise ValueError(message)
        codes.append(code)
    return np.array(codes, dtype=np.int64)


def read_column(
    name: str, given: npt.ArrayLike, n: int, lowest: float, highest: float
) -> FloatArray:
    """Return ``n`` numbers within bounds, given as one for all or one each."""
    array = np.asarray(given, dtype=np.float64)
    if array.shape not in ((), (1,), (n,)):
        message = f"{name} must be one number or {n}, not {array.shape}"
        raise ValueError(message)
    wrong = ~((array >= lowest) & (array <= highest))
    if wrong.any():
        message = f"{name} is {array[wrong].flat[0]}; allowed: {lowest:g} to {highest:g}"
        raise ValueError(message)
    return np.broadcast_to(array, n)


def read_row(
    x: Mapping[str, Any], lfs: tuple[str, ...], classes: tuple[str, ...]
) -> npt.NDArray[np.int8]:
    """Return one row of votes from a mapping of column to class; columns left out abstain."""
    codes = [class_code(x.get(name), classes, f"the vote of {name}") for name in lfs]
    return np.array(codes, dtype=np.int8).reshape(1, len(lfs))


def read_column_priors(accuracies: Sequence[float | None], config: Config) -> FloatArray:
    """Return rows of accuracy and strength of columns' priors; zeros for the usual one."""
    rows = np.zeros((len(accuracies), 2))
    for row, accuracy in zip(rows, accuracies, strict=True):
        if accuracy is None:
            continue
        if not 0.0 < accuracy < 1.0:
            message = f"an accuracy must be between 0 and 1, not {accuracy}"
            raise ValueError(message)
        row[:] = accuracy, config.lf_strength
    return rows
