"""Will this flight arrive 30 or more minutes late? Asked at its scheduled departure."""

import trunkline as tl
from trunkline.estimators import MLP, LightGBM

# What the departure boards show of an airport, an airline and a destination: models/intermediate/int_board_*.sql.
BOARD = [
    "waiting",
    "waiting_minutes",
    "departed",
    "departed_delay",
    "departed_late_share",
    "landed_delay",
    "landed_minutes_lost",
]

flights = tl.Dataset(
    "flight_features",  # a dbt model
    key="flight_id",
    time="scheduled_departure",
    target="late",
    groups={
        "schedule": [
            "carrier",
            "origin",
            "destination",
            "distance",
            "day_of_week",
            "minute_of_day",
            "scheduled_minutes",
            "departures_this_hour",
        ],
        "plane": ["plane_manufacturer", "plane_model", "plane_seats", "plane_built"],
        "weather": [
            "temperature",
            "dew_point",
            "humidity",
            "wind_direction",
            "wind_speed",
            "wind_gust",
            "crosswind",
            "precipitation",
            "pressure",
            "visibility",
        ],
        "history": [
            *(f"{scope}_{value}" for scope in ("origin", "carrier", "destination") for value in BOARD),
            "plane_minutes_since_scheduled",
            "plane_previous_departure_delay",
            "plane_previous_arrival_delay",
            "plane_minutes_since_landed",
            "plane_spare_minutes",
        ],
    },
    split=tl.split.by_time(validation="2013-09-01", test="2013-11-01"),
)


@tl.model(
    dataset=flights,
    metric="roc_auc",
    first={"family": "lightgbm", "leaves": 63, "lr": 0.05, "min_leaf": 300, "feature_fraction": 0.5, "l2": 5.0},
)
def delay(trial: tl.Trial):
    if trial.suggest_categorical("family", ["lightgbm", "mlp"]) == "lightgbm":
        return LightGBM(
            leaves=trial.suggest_int("leaves", 15, 127, log=True),
            lr=trial.suggest_float("lr", 0.02, 0.2, log=True),
            rounds=500,
            min_leaf=trial.suggest_int("min_leaf", 50, 1000, log=True),
            feature_fraction=trial.suggest_float("feature_fraction", 0.3, 1.0),
            l2=trial.suggest_float("l2", 0.1, 50.0, log=True),
        )
    return MLP(
        width=trial.suggest_int("width", 64, 256, log=True),
        depth=trial.suggest_int("depth", 1, 3),
        lr=trial.suggest_float("mlp_lr", 3e-4, 1e-2, log=True),
        dropout=trial.suggest_float("dropout", 0.0, 0.4),
        embedding=trial.suggest_int("embedding", 4, 32, log=True),
        batch_size=4096,
        epochs=6,
    )
