-- The weather of each hour under the name of the hour after it: what a flight of that hour can know.
-- `crosswind` is a Python function: functions/crosswind.py.
select
    origin,
    {{ dateadd('hour', 1, 'observed_hour_utc') }} as known_for_hour_utc,
    temperature,
    dew_point,
    humidity,
    wind_direction,
    wind_speed,
    wind_gust,
    {{ function('crosswind') }}(origin, wind_direction, wind_speed) as crosswind,
    precipitation,
    pressure,
    visibility
from {{ ref('stg_weather') }}
