"""Which letter of the alphabet is this print? 26 classes."""

import trunkline as tl
from sklearn.ensemble import HistGradientBoostingClassifier
from trunkline.estimators import MLP, LightGBM, Sklearn, TabM

prints = tl.Dataset(
    "letter_features",
    key="print_id",
    target="letter",
    groups={
        "box": ["x_box", "y_box", "width", "height", "on_pixels"],
        "moments": ["x_mean", "y_mean", "x_variance", "y_variance", "xy_correlation", "x2y_mean", "xy2_mean"],
        "edges": ["x_edges", "x_edges_by_y", "y_edges", "y_edges_by_x"],
    },
    split=tl.split.stratified(validation=0.15, test=0.15),
)


@tl.model(dataset=prints, metric="log_loss", first={"family": "mlp", "width": 512, "dropout": 0.2, "net_lr": 0.002})
def letter(trial: tl.Trial):
    family = trial.suggest_categorical("family", ["mlp", "tabm", "lightgbm"])
    if family == "lightgbm":
        return LightGBM(
            leaves=trial.suggest_int("leaves", 15, 63, log=True),
            lr=trial.suggest_float("lr", 0.03, 0.2, log=True),
            min_leaf=trial.suggest_int("min_leaf", 5, 50, log=True),
            rounds=300,
        )
    net = {
        "width": trial.suggest_int("width", 128, 512, log=True),
        "depth": trial.suggest_int("depth", 2, 3),
        "lr": trial.suggest_float("net_lr", 5e-4, 5e-3, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.3),
        "batch_size": 256,
        "epochs": 120,
    }
    return TabM(**net) if family == "tabm" else MLP(**net)


@tl.model(dataset=prints, metric="log_loss")
def baseline(trial: tl.Trial):
    """What scikit-learn does with no settings at all, on the same rows."""
    return Sklearn(HistGradientBoostingClassifier(random_state=0))
