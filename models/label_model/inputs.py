"""Reading what callers give a label model: votes, labels, names and priors, checked at the door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.base import ABSTAIN
from models.label_model.layout import CROWD, LF, Config, FloatArray

__all__ = [
    "class_code",
    "form_code",
    "read_column_priors",
    "read_labels",
    "read_prior",
    "read_row",
    "read_votes",
]

FORMS = {"lf": LF, "crowd": CROWD}


def form_code(form: str) -> int:
    """Return the number of a form."""
    if form not in FORMS:
        message = f"form must be one of {sorted(FORMS)}, not {form!r}"
        raise ValueError(message)
    return FORMS[form]


def read_prior(
    prior: Sequence[float] | Mapping[str, float] | None, classes: tuple[str, ...]
) -> FloatArray:
    """Return a class balance that sums to 1; uniform for None."""
    if prior is None:
        return np.full(len(classes), 1.0 / len(classes))
    given = [prior[name] for name in classes] if isinstance(prior, Mapping) else list(prior)
    array = np.array(given, dtype=np.float64)
    if array.shape != (len(classes),) or not np.isfinite(array).all() or (array <= 0).any():
        message = f"prior must give each of {classes} a positive share, not {prior}"
        raise ValueError(message)
    return np.asarray(array / array.sum())


def read_votes(votes: npt.ArrayLike, columns: int) -> npt.NDArray[np.int8]:
    """Return (n, columns) votes; anything that is no class position abstains."""
    matrix = np.ascontiguousarray(votes, dtype=np.int8)
    if matrix.shape[1:] != (columns,):
        message = f"votes must be (n, {columns}), not {matrix.shape}"
        raise ValueError(message)
    return matrix


def class_code(label: Any, classes: tuple[str, ...]) -> int:
    """Return the position of a class given by name or position; -1 for None and unknown."""
    if label is None:
        return ABSTAIN
    if isinstance(label, str):
        return classes.index(label) if label in classes else ABSTAIN
    return int(label)


def read_labels(labels: npt.ArrayLike, classes: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return positions of labels given by name or position, each one a class."""
    given = np.asarray(labels)
    if given.dtype.kind in "USO":
        given = np.array([class_code(label, classes) for label in given.ravel().tolist()])
    codes = given.astype(np.int64).ravel()
    if ((codes < 0) | (codes >= len(classes))).any():
        message = f"labels must be names or positions of {classes}"
        raise ValueError(message)
    return codes


def read_row(
    x: Mapping[str, Any], lfs: tuple[str, ...], classes: tuple[str, ...]
) -> npt.NDArray[np.int8]:
    """Return one row of votes from a mapping of column to class; columns left out abstain."""
    codes = [class_code(x.get(name), classes) for name in lfs]
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
