"""How hard the wind blows across the runway that suits it best: pandas Series in, pandas Series out."""

import numpy as np

# True headings of the two runway directions of each airport, in degrees.
# Source: FAA airport diagrams (EWR 4/22 and 11/29; JFK and LGA 4/22 and 13/31).
HEADINGS = {"EWR": (26, 95), "JFK": (31, 121), "LGA": (32, 122)}


def main(origin, direction, speed):
    """Crosswind component in the unit of `speed`; `direction` in degrees from true north. NULL where unknown."""

    def across(runway):
        heading = origin.map({airport: headings[runway] for airport, headings in HEADINGS.items()}).astype("Float64")
        return (speed * np.sin(np.radians(direction - heading))).abs()

    best = np.minimum(across(0), across(1))
    return best.mask(speed.eq(0).fillna(False), 0.0)  # calm air has no direction
