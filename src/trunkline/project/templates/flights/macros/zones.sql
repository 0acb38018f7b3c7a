{# The only SQL here that DuckDB and Snowflake spell differently: time zones. #}

{# An instant (timestamp with time zone) as the wall clock of UTC. #}
{% macro utc(instant) %}{{ return(adapter.dispatch('utc')(instant)) }}{% endmacro %}
{% macro default__utc(instant) %}timezone('UTC', {{ instant }}){% endmacro %}
{% macro snowflake__utc(instant) %}convert_timezone('UTC', {{ instant }})::timestamp_ntz{% endmacro %}

{# A wall clock of one zone as the wall clock of another. Zones are SQL expressions. #}
{% macro change_zone(clock, from_zone, to_zone) %}{{ return(adapter.dispatch('change_zone')(clock, from_zone, to_zone)) }}{% endmacro %}
{% macro default__change_zone(clock, from_zone, to_zone) %}timezone({{ to_zone }}, timezone({{ from_zone }}, {{ clock }})){% endmacro %}
{% macro snowflake__change_zone(clock, from_zone, to_zone) %}convert_timezone({{ from_zone }}, {{ to_zone }}, {{ clock }}){% endmacro %}
