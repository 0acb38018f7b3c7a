{{ config(materialized='table') }}
-- Every scheduled flight with its times as instants. All clocks named *_utc are UTC; scheduled_departure is New York's.
with flights as (

    select * from {{ source('nyc', 'flights') }}

),

zones as (

    select airport, time_zone from {{ ref('stg_airports') }}

),

departures as (

    select
        flights.*,
        {{ dateadd('minute', 'flights.minute', trunkline_utc('flights.time_hour')) }} as scheduled_departure_utc,
        coalesce(
            zones.time_zone,
            -- the list of airports leaves out Puerto Rico and the Virgin Islands
            case when flights.dest in ('BQN', 'PSE', 'SJU', 'STT') then 'America/Puerto_Rico' end
        ) as arrival_zone
    from flights
    left join zones on flights.dest = zones.airport

),

clocks as (

    select
        *,
        {{ trunkline_change_zone('scheduled_departure_utc', "'UTC'", "'America/New_York'") }} as scheduled_departure,
        -- the wall clock at the destination, on the day of departure
        {{ trunkline_change_zone(
            dateadd('minute', 'cast(floor(sched_arr_time / 100) * 60 + mod(sched_arr_time, 100) as integer)',
                    'cast(' ~ dbt.date_trunc('day', trunkline_change_zone('scheduled_departure_utc', "'UTC'", "'America/New_York'")) ~ ' as datetime)'),
            'arrival_zone', "'UTC'"
        ) }} as arrival_on_that_day_utc
    from departures

),

arrivals as (

    select
        *,
        case
            when arrival_on_that_day_utc < scheduled_departure_utc
                then {{ dateadd('day', 1, 'arrival_on_that_day_utc') }}
            else arrival_on_that_day_utc
        end as scheduled_arrival_utc
    from clocks

)

select
    year || '-' || lpad(cast(month as varchar), 2, '0') || '-' || lpad(cast(day as varchar), 2, '0')
        || '-' || carrier || flight || '-' || origin as flight_id,
    scheduled_departure,
    scheduled_departure_utc,
    scheduled_arrival_utc,
    {{ dateadd('minute', 'dep_delay', 'scheduled_departure_utc') }} as departure_utc,
    {{ dateadd('minute', 'arr_delay', 'scheduled_arrival_utc') }} as arrival_utc,
    dep_delay as departure_delay,
    arr_delay as arrival_delay,
    carrier,
    flight as flight_number,
    tailnum as tail_number,
    origin,
    dest as destination,
    distance
from arrivals
