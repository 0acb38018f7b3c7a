-- One row a flight that arrived, with what was known at its scheduled departure and whether it came late.
select
    flights.flight_id,
    flights.scheduled_departure,

    -- schedule
    flights.carrier,
    flights.origin,
    flights.destination,
    cast(flights.distance as bigint) as distance,
    cast({{ trunkline_day_of_week('flights.scheduled_departure') }} as bigint) as day_of_week,
    cast(extract(hour from flights.scheduled_departure) * 60
        + extract(minute from flights.scheduled_departure) as bigint) as minute_of_day,
    cast({{ datediff('flights.scheduled_departure_utc', 'flights.scheduled_arrival_utc', 'minute') }} as bigint) as scheduled_minutes,
    cast(timetable.departures_this_hour as bigint) as departures_this_hour,

    -- plane
    planes.manufacturer as plane_manufacturer,
    planes.model as plane_model,
    cast(planes.seats as bigint) as plane_seats,
    cast(planes.built as bigint) as plane_built,

    -- weather of the hour before
    weather.temperature,
    weather.dew_point,
    weather.humidity,
    weather.wind_direction,
    weather.wind_speed,
    weather.wind_gust,
    weather.crosswind,
    weather.precipitation,
    weather.pressure,
    weather.visibility,

    -- history
    {% for scope, board in [('origin', 'airport'), ('carrier', 'airline'), ('destination', 'arrivals')] -%}
    {% for value in ['waiting', 'waiting_minutes', 'departed', 'departed_delay', 'departed_late_share',
                     'landed_delay', 'landed_minutes_lost'] -%}
    {{ board }}.{{ scope }}_{{ value }},
    {% endfor -%}
    {% endfor -%}
    cast(previous.plane_minutes_since_scheduled as bigint) as plane_minutes_since_scheduled,
    cast(previous.plane_previous_departure_delay as bigint) as plane_previous_departure_delay,
    cast(previous.plane_previous_arrival_delay as bigint) as plane_previous_arrival_delay,
    cast(previous.plane_minutes_since_landed as bigint) as plane_minutes_since_landed,
    cast(previous.plane_spare_minutes as bigint) as plane_spare_minutes,

    -- target
    flights.arrival_delay >= 30 as late

from {{ ref('stg_flights') }} as flights
left join {{ ref('int_timetable_hours') }} as timetable
    on flights.origin = timetable.origin
    and {{ date_trunc('hour', 'flights.scheduled_departure_utc') }} = timetable.hour_utc
left join {{ ref('stg_planes') }} as planes
    on flights.tail_number = planes.tail_number
left join {{ ref('int_weather_before') }} as weather
    on flights.origin = weather.origin
    and {{ date_trunc('hour', 'flights.scheduled_departure_utc') }} = weather.known_for_hour_utc
left join {{ ref('int_board_by_origin') }} as airport on flights.flight_id = airport.flight_id
left join {{ ref('int_board_by_carrier') }} as airline on flights.flight_id = airline.flight_id
left join {{ ref('int_board_by_destination') }} as arrivals on flights.flight_id = arrivals.flight_id
left join {{ ref('int_previous_flight') }} as previous on flights.flight_id = previous.flight_id
where flights.arrival_delay is not null
