"""How hard the wind blows across the runway that suits it best: pandas Series in, an array out."""

import numpy as np

# True headings of the two runway directions of each airport, in degrees.
# Source: FAA airport diagrams (EWR 4/22 and 11/29; JFK and LGA 4/22 and 13/31).
HEADINGS = {"EWR": (26, 95), "JFK": (31, 121), "LGA": (32, 122)}
UNKNOWN = (np.nan, np.nan)


def main(origin, direction, speed):
    """Crosswind component in the unit of `speed`; `direction` in degrees from true north. NULL where unknown."""
    headings = np.array([HEADINGS.get(airport, UNKNOWN) for airport in origin]).reshape(-1, 2)
    angles = np.radians(direction.to_numpy()[:, None] - headings)
    across = np.abs(speed.to_numpy()[:, None] * np.sin(angles))
    return np.where(speed == 0, 0.0, across.min(axis=1))  # calm air has no direction
