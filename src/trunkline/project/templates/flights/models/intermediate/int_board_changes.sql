-- What the departure boards showed, as changes. A line enters a board at one moment and leaves it at a later one; it is
-- written here twice, first with its values and then with them taken back. A running sum up to a moment is what stood
-- on the board at that moment. Each flight asks once, at its scheduled departure, BEFORE the changes of that minute:
-- so it sees only what was over by then, and never itself. (A join of each flight with the hours before it takes minutes.)
with flights as (

    select
        *,
        {{ minute_number('scheduled_departure_utc') }} as scheduled_minute,
        {{ dateadd('hour', 3, 'scheduled_departure_utc') }} as forgotten_utc,
        -- an early departure counts from its scheduled time on
        greatest(departure_utc, scheduled_departure_utc) as departed_utc
    from {{ ref('stg_flights') }}

),

board_lines as (

    -- should have left, has not: until it leaves, three hours at most (nobody knows here when a flight is cancelled)
    select
        origin, carrier, destination,
        scheduled_departure_utc as enters_utc,
        least(coalesce(departure_utc, forgotten_utc), forgotten_utc) as leaves_utc,
        1 as waiting, scheduled_minute as waiting_since,
        0 as departed, 0 as departed_delay, 0 as departed_late,
        0 as landed, 0 as landed_delay, 0 as landed_minutes_lost
    from flights
    where departure_utc is null or departure_utc > scheduled_departure_utc

    union all

    -- left in the last two hours
    select
        origin, carrier, destination,
        departed_utc, {{ dateadd('hour', 2, 'departed_utc') }},
        0, 0,
        1, departure_delay, case when departure_delay >= 15 then 1 else 0 end,
        0, 0, 0
    from flights
    where departure_utc is not null

    union all

    -- landed in the last three hours
    select
        origin, carrier, destination,
        arrival_utc, {{ dateadd('hour', 3, 'arrival_utc') }},
        0, 0,
        0, 0, 0,
        1, arrival_delay, arrival_delay - departure_delay
    from flights
    where arrival_utc is not null

)

{% set values = ['waiting', 'waiting_since', 'departed', 'departed_delay', 'departed_late',
                 'landed', 'landed_delay', 'landed_minutes_lost'] %}
select
    cast(null as varchar) as flight_id, origin, carrier, destination,
    enters_utc as moment_utc, 1 as turn,
    {{ values | join(', ') }}
from board_lines

union all

select
    null, origin, carrier, destination,
    leaves_utc, 1,
    -{{ values | join(', -') }}
from board_lines

union all

select
    flight_id, origin, carrier, destination,
    scheduled_departure_utc, 0{% for value in values %}, 0{% endfor %}

from flights
where arrival_utc is not null
