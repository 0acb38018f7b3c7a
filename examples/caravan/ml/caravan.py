"""Will this household insure a caravan? One in seventeen does."""

import trunkline as tl
from sklearn.ensemble import HistGradientBoostingClassifier
from trunkline.estimators import MLP, LightGBM, Sklearn

NEIGHBOURHOOD = """
mostype maanthui mgemomv mgemleef moshoofd mgodrk mgodpr mgodov mgodge mrelge mrelsa mrelov
mfalleen mfgekind mfwekind moplhoog moplmidd mopllaag mberhoog mberzelf mberboer mbermidd mberarbg
mberarbo mska mskb1 mskb2 mskc mskd mhhuur mhkoop maut1 maut2 maut0 mzfonds mzpart minkm30 mink3045
mink4575 mink7512 mink123m minkgem mkoopkla
""".split()
PAID = """
pwapart pwabedr pwaland ppersaut pbesaut pmotsco pvraaut paanhang ptractor pwerkt pbrom pleven
ppersong pgezong pwaoreg pbrand pzeilpl pplezier pfiets pinboed pbystand
""".split()
POLICIES = """
awapart awabedr awaland apersaut abesaut amotsco avraaut aaanhang atractor awerkt abrom aleven
apersong agezong awaoreg abrand azeilpl aplezier afiets ainboed abystand
""".split()

households = tl.Dataset(
    "household_features",
    key="household_id",
    target="bought",
    groups={"policies": POLICIES, "paid": PAID, "neighbourhood": NEIGHBOURHOOD},
    split=tl.split.by_group("likeness", validation=0.25, test=0.25),
)


@tl.model(dataset=households, metric="average_precision", first={"family": "lightgbm"})
def caravan(trial: tl.Trial):
    weight = trial.suggest_categorical("class_weights", ["none", "balanced"])
    settings = {"class_weights": None if weight == "none" else weight}
    if trial.suggest_categorical("family", ["lightgbm", "mlp"]) == "lightgbm":
        return LightGBM(
            leaves=trial.suggest_int("leaves", 3, 31, log=True),
            lr=trial.suggest_float("lr", 0.01, 0.1, log=True),
            min_leaf=trial.suggest_int("min_leaf", 10, 200, log=True),
            feature_fraction=trial.suggest_float("feature_fraction", 0.1, 1.0),
            l2=trial.suggest_float("l2", 1.0, 100.0, log=True),
            rounds=400,
            **settings,
        )
    return MLP(
        width=trial.suggest_int("width", 16, 128, log=True),
        depth=trial.suggest_int("depth", 1, 2),
        lr=trial.suggest_float("net_lr", 3e-4, 1e-2, log=True),
        dropout=trial.suggest_float("dropout", 0.1, 0.6),
        weight_decay=trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True),
        batch_size=256,
        epochs=20,
        **settings,
    )


@tl.model(dataset=households, metric="average_precision")
def baseline(trial: tl.Trial):
    """What scikit-learn does with no settings at all, on the same rows."""
    return Sklearn(HistGradientBoostingClassifier(random_state=0))
