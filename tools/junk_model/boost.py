"""Trees fitted one after the other to what the sum of those before them leaves: scikit-learn's, as arrays."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from samplewise.corpus.junk.trees import Trees

TREES, RATE, LEAVES, FEWEST, SHRINK = 260, 0.07, 16, 60, 5.0


def boosted(rows: np.ndarray, noisy: np.ndarray, worth: np.ndarray) -> Trees:
    """rows: [N, columns], nan where blind. noisy: [N] 0 or 1. worth: [N] of each in the fit."""
    made = HistGradientBoostingClassifier(
        max_iter=TREES, learning_rate=RATE, max_leaf_nodes=LEAVES, min_samples_leaf=FEWEST, l2_regularization=SHRINK,
        early_stopping=False, random_state=0, max_features=0.5,
    )  # fmt: skip
    return arrays(made.fit(rows.astype(np.float32), noisy, worth))


def arrays(made: HistGradientBoostingClassifier) -> Trees:
    """Of each tree the nodes in an order in which the two after a node stand side by side."""
    trees = [_side_by_side(own[0].nodes) for own in made._predictors]
    size = max(len(own[0]) for own in trees)
    columns = [np.stack([np.pad(tree[place], (0, size - len(tree[place]))) for tree in trees]) for place in range(5)]
    return Trees(*columns)


def _side_by_side(nodes: np.ndarray) -> tuple[np.ndarray, ...]:
    order, place = [0], 0
    after = np.zeros(len(nodes), np.int16)
    while place < len(order):
        node = nodes[order[place]]
        if not node["is_leaf"]:
            after[place] = len(order)
            order += [int(node["left"]), int(node["right"])]
        place += 1
    own = nodes[order]
    leaf = own["is_leaf"].astype(bool)
    return (
        np.where(leaf, 0, own["feature_idx"]).astype(np.int16),
        np.where(leaf, 0, own["num_threshold"]).astype(np.float32),
        ~own["missing_go_to_left"].astype(bool) & ~leaf, after, np.where(leaf, own["value"], 0).astype(np.float32),
    )  # fmt: skip
