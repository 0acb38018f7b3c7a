"""Will this order be sent back?"""

import trunkline as tl
from trunkline.estimators import LightGBM

orders = tl.Dataset(
    "order_features",  # a dbt model
    key="order_id",
    time="ordered_at",
    target="returned",
    groups={
        "order": ["items", "amount", "amount_per_item", "hour"],
        "customer": ["country", "first_order"],
    },
    split=tl.split.by_time(validation="2025-03-01", test="2025-04-01"),
)


@tl.model(dataset=orders, metric="roc_auc")
def returns(trial: tl.Trial) -> LightGBM:
    return LightGBM(
        leaves=trial.suggest_int("leaves", 7, 63, log=True),
        lr=trial.suggest_float("lr", 0.02, 0.2, log=True),
        rounds=200,
        min_leaf=20,
    )
