"""What most of the votes on an example say: a label that no model has a hand in.

A shift of labels, P(Y) changed and every function as good as before, cannot be told from the label
model's own answers: while its class balance is held, votes that all change at once are explained
in part by functions that changed, and the labels stay where they were. Black-box shift detection
needs a predictor that stays as it is and does better than chance, no more; the majority is one
without a parameter.

References
----------
Lipton, Wang, Smola: Detecting and Correcting for Label Shift with Black Box Predictors (2018).
Rabanser, Günnemann, Lipton: Failing Loudly (2019), where predicted classes are tested.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["majority_of"]


@njit(cache=True, nogil=True)
def majority_of(votes: NDArray[np.int8], classes: int) -> NDArray[np.int8]:
    """Return the class that most votes of each row (n, m) are for; −1 of equals and of silence.

    Examples
    --------
    >>> majority_of(np.array([[1, 1, 0], [0, 1, -1], [-1, -1, -1]], dtype=np.int8), 2).tolist()
    [1, -1, -1]
    """
    n, m = votes.shape
    found = np.full(n, -1, np.int8)
    for i in range(n):
        most = 0
        for k in range(classes):
            # A pass for each class, without a branch: several votes at a time.
            count: int = 0
            for j in range(m):
                count += votes[i, j] == k
            if count > most:
                most = count
                found[i] = k
            elif count == most:
                found[i] = -1
    return found
