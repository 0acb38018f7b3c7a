-- The same for the plane and the weather: what a sample of flights was given, against what had happened by then.
with asked as (

    select features.*, flights.scheduled_departure_utc as now_utc, flights.tail_number
    from {{ ref('flight_features') }} as features
    inner join {{ ref('stg_flights') }} as flights on features.flight_id = flights.flight_id
    qualify row_number() over (order by md5(features.flight_id)) <= 2000

),

earlier as (

    select
        asked.*,
        previous.departure_delay,
        previous.arrival_delay,
        previous.departure_utc <= asked.now_utc as has_left,
        previous.arrival_utc <= asked.now_utc as has_landed
    from asked
    inner join {{ ref('stg_flights') }} as previous
        on asked.tail_number = previous.tail_number and previous.scheduled_departure_utc < asked.now_utc
    qualify row_number() over (
        partition by asked.flight_id order by previous.scheduled_departure_utc desc, previous.flight_id desc
    ) = 1

)

select flight_id, 'plane' as what
from earlier
where
    plane_previous_departure_delay is distinct from case when has_left then departure_delay end
    or plane_previous_arrival_delay is distinct from case when has_landed then arrival_delay end
    or plane_minutes_since_landed < 0

union all

-- an observation is at least a part of an hour, at most two hours old
select asked.flight_id, 'weather'
from asked
left join {{ ref('stg_weather') }} as weather
    on asked.origin = weather.origin
    and weather.observed_hour_utc < asked.now_utc
    and weather.observed_hour_utc > asked.now_utc - interval '2 hours'
group by asked.flight_id, asked.temperature
having asked.temperature is not null
    and count(case when weather.temperature = asked.temperature then 1 end) = 0
