-- No feature sees the future, or the flight itself. Recomputes the boards of a sample of flights by brute force, from
-- conditions that say "over before this scheduled departure" in so many words. Returns the flights that differ.
{% set scopes = ['origin', 'carrier', 'destination'] %}
{% set values = ['waiting', 'waiting_minutes', 'departed', 'departed_delay', 'departed_late_share',
                 'landed_delay', 'landed_minutes_lost'] %}
with asked as (

    select *
    from {{ ref('flight_features') }}
    qualify row_number() over (order by md5(flight_id)) <= 60

),

moments as (

    select asked.*, flights.scheduled_departure_utc as now_utc
    from asked
    inner join {{ ref('stg_flights') }} as flights on asked.flight_id = flights.flight_id

),

{% for scope in scopes %}
{{ scope }}_seen as (

    select
        moments.*,
        seen.departure_delay,
        seen.arrival_delay,
        {{ datediff('seen.scheduled_departure_utc', 'now_utc', 'minute') }} as minutes_ago,
        seen.scheduled_departure_utc >= now_utc - interval '3 hours'
            and (seen.departure_utc is null or seen.departure_utc >= now_utc) as is_waiting,
        seen.departure_utc < now_utc
            and greatest(seen.departure_utc, seen.scheduled_departure_utc) >= now_utc - interval '2 hours' as has_left,
        seen.arrival_utc < now_utc and seen.arrival_utc >= now_utc - interval '3 hours' as has_landed
    from moments
    left join {{ ref('stg_flights') }} as seen
        on moments.{{ scope }} = seen.{{ scope }} and seen.scheduled_departure_utc < moments.now_utc

),

{{ scope }}_truth as (

    select
        flight_id,
        {% for value in values %}
        max({{ scope }}_{{ value }}) as found_{{ value }},
        {% endfor %}
        count(case when is_waiting then 1 end) as waiting,
        avg(case when is_waiting then minutes_ago end) as waiting_minutes,
        count(case when has_left then 1 end) as departed,
        avg(case when has_left then departure_delay end) as departed_delay,
        avg(case when has_left then case when departure_delay >= 15 then 1.0 else 0.0 end end) as departed_late_share,
        avg(case when has_landed then arrival_delay end) as landed_delay,
        avg(case when has_landed then arrival_delay - departure_delay end) as landed_minutes_lost
    from {{ scope }}_seen
    group by flight_id

){{ ',' if not loop.last }}
{% endfor %}

{% for scope in scopes %}
select flight_id, '{{ scope }}' as board
from {{ scope }}_truth
where {% for value in values -%}
    coalesce(abs({{ value }} - found_{{ value }}) > 0.0001, ({{ value }} is null) <> (found_{{ value }} is null))
    {{ 'or ' if not loop.last }}
{%- endfor %}
{{ 'union all' if not loop.last }}
{% endfor %}
