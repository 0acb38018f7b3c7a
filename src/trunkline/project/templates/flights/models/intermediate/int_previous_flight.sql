-- The same plane's flight before this one (of those that left New York), as far as it was known at this scheduled
-- departure: delays only if that flight had left, or landed, by then.
{% set before = 'over (partition by tail_number order by scheduled_departure_utc, flight_id)' %}
with flights as (

    select
        flight_id,
        scheduled_departure_utc,
        lag(scheduled_departure_utc) {{ before }} as previous_scheduled_utc,
        lag(departure_utc) {{ before }} as previous_departure_utc,
        lag(arrival_utc) {{ before }} as previous_arrival_utc,
        lag(departure_delay) {{ before }} as previous_departure_delay,
        lag(arrival_delay) {{ before }} as previous_arrival_delay,
        lag({{ datediff('scheduled_departure_utc', 'scheduled_arrival_utc', 'minute') }}) {{ before }} as previous_scheduled_minutes
    from {{ ref('stg_flights') }}
    where tail_number is not null

),

known as (

    select
        *,
        coalesce(previous_departure_utc <= scheduled_departure_utc, false) as has_left,
        coalesce(previous_arrival_utc <= scheduled_departure_utc, false) as has_landed
    from flights
    where previous_scheduled_utc < scheduled_departure_utc

)

select
    flight_id,
    {{ datediff('previous_scheduled_utc', 'scheduled_departure_utc', 'minute') }} as plane_minutes_since_scheduled,
    case when has_left then previous_departure_delay end as plane_previous_departure_delay,
    case when has_landed then previous_arrival_delay end as plane_previous_arrival_delay,
    case when has_landed then {{ datediff('previous_arrival_utc', 'scheduled_departure_utc', 'minute') }} end as plane_minutes_since_landed,
    -- what would be left for two turnarounds if it flew straight back
    case when has_landed
        then {{ datediff('previous_arrival_utc', 'scheduled_departure_utc', 'minute') }} - previous_scheduled_minutes
    end as plane_spare_minutes
from known
