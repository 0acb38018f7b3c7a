-- How full the timetable of an airport is in each hour. The timetable is published long before.
select
    origin,
    {{ date_trunc('hour', 'scheduled_departure_utc') }} as hour_utc,
    count(*) as departures_this_hour
from {{ ref('stg_flights') }}
group by 1, 2
