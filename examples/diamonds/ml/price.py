"""What does this diamond cost, in dollars?"""

import trunkline as tl
from sklearn.ensemble import HistGradientBoostingRegressor
from trunkline.estimators import LightGBM, Sklearn, TabM

stones = tl.Dataset(
    "diamond_features",
    key="diamond_id",
    target="price",
    groups={
        "weight": ["carat"],
        "grades": ["cut", "color", "clarity"],
        "shape": ["depth", "table_width", "length_mm", "width_mm", "height_mm", "volume_mm3", "elongation"],
    },
    split=tl.split.by_key(validation=0.15, test=0.15),
)


@tl.model(dataset=stones, metric="rmse", first={"family": "lightgbm"})
def price(trial: tl.Trial):
    if trial.suggest_categorical("family", ["lightgbm", "tabm"]) == "lightgbm":
        return LightGBM(
            leaves=trial.suggest_int("leaves", 15, 127, log=True),
            lr=trial.suggest_float("lr", 0.02, 0.2, log=True),
            min_leaf=trial.suggest_int("min_leaf", 5, 100, log=True),
            feature_fraction=trial.suggest_float("feature_fraction", 0.5, 1.0),
            rounds=1000,
        )
    return TabM(
        width=trial.suggest_int("width", 64, 256, log=True),
        depth=trial.suggest_int("depth", 2, 3),
        lr=trial.suggest_float("net_lr", 5e-4, 5e-3, log=True),
        batch_size=512,
        epochs=15,
    )


@tl.model(dataset=stones, metric="pinball_loss", quantiles=(0.1, 0.5, 0.9))
def price_range(trial: tl.Trial):
    """From what to what: eight in ten of such diamonds cost between the first number and the last."""
    return LightGBM(rounds=300, min_leaf=20)


@tl.model(dataset=stones, metric="rmse")
def baseline(trial: tl.Trial):
    """What scikit-learn does with no settings at all, on the same rows."""
    return Sklearn(HistGradientBoostingRegressor(random_state=0))
