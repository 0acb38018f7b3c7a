"""One of the processes that grow trees together: `python tree_peers_case.py REQUEST`, see test_tree_peers.py.

With `forever` it says when it has reported, and goes on until a peer is gone; it says what that raises.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace

from trunkline.errors import TransientError
from trunkline.estimators import LightGBM, XGBoost
from trunkline.testing import estimator_cases
from trunkline.training.protocol import FitContext, Matrix, Peers

SETTINGS = {"rounds": 60, "lr": 0.1, "early_stopping": 60, "bagging_fraction": 1.0, "feature_fraction": 1.0}
ESTIMATORS = {
    "lightgbm": LightGBM(**SETTINGS, leaves=8, min_leaf=20),  # type: ignore[arg-type]  # a mapping of all kinds
    "xgboost": XGBoost(**SETTINGS, depth=3),  # type: ignore[arg-type]  # the same
}

if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    data = estimator_cases.case(asked["kind"])
    rank, world, rows = asked["rank"], 2, len(data.train)
    half = slice(rank * rows // world, (rank + 1) * rows // world)
    mine = replace(data, train=Matrix(data.train.x[half], data.train.y[half], data.train.missing))
    balanced = asked["kind"] in ("binary", "multiclass")
    estimator = replace(ESTIMATORS[asked["name"]], class_weights="balanced" if balanced else None)
    peers = Peers(rank, world, rows, asked["settings"])
    if "forever" in asked:
        told = FitContext(seed=1, report=lambda step, value: print("grown", flush=True), peers=peers)  # noqa: T201
        try:
            replace(estimator, rounds=100_000, early_stopping=100_000).fit(mine, told)
        except TransientError as exc:
            sys.exit(f"transient: {exc}")
    fitted = estimator.fit(mine, FitContext(seed=1, peers=peers))
    score = fitted.predict(data.validation.x)
    digest = hashlib.sha256(fitted.to_onnx()).hexdigest()
    sys.stdout.write(json.dumps({"digest": digest, "value": data.metric.of(data.validation.y, score)}) + "\n")
