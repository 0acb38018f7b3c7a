-- Hourly weather with the hour in UTC. One observation has a wind of 1048 miles an hour: not weather, so unknown.
select
    origin,
    {{ trunkline_utc('time_hour') }} as observed_hour_utc,
    temp as temperature,
    dewp as dew_point,
    humid as humidity,
    wind_dir as wind_direction,
    case when wind_speed < 200 then wind_speed end as wind_speed,
    wind_gust,
    precip as precipitation,
    pressure,
    visib as visibility
from {{ source('nyc', 'weather') }}
