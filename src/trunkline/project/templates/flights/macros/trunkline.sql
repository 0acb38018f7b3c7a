{# What DuckDB and Snowflake spell differently, once: the same answer from both. `trunkline init` writes this file and
   never changes one that is there. How each is used: docs/snowflake.md, "SQL that differs". #}


{# ---- time zones and days ---- #}

{# An instant (timestamp with time zone) as the wall clock of UTC. #}
{% macro trunkline_utc(instant) %}{{ return(adapter.dispatch('trunkline_utc')(instant)) }}{% endmacro %}
{% macro default__trunkline_utc(instant) %}timezone('UTC', {{ instant }}){% endmacro %}
{% macro snowflake__trunkline_utc(instant) %}convert_timezone('UTC', {{ instant }})::timestamp_ntz{% endmacro %}

{# A wall clock of one zone as the wall clock of another. Zones are SQL expressions: "'Europe/Paris'", or a column. #}
{% macro trunkline_change_zone(clock, from_zone, to_zone) %}{{ return(adapter.dispatch('trunkline_change_zone')(clock, from_zone, to_zone)) }}{% endmacro %}
{% macro default__trunkline_change_zone(clock, from_zone, to_zone) %}timezone({{ to_zone }}, timezone({{ from_zone }}, {{ clock }})){% endmacro %}
{% macro snowflake__trunkline_change_zone(clock, from_zone, to_zone) %}convert_timezone({{ from_zone }}, {{ to_zone }}, {{ clock }}){% endmacro %}

{# 0 is Sunday. Snowflake's `dayofweek` begins where the account's WEEK_START says; the ISO day does not. #}
{% macro trunkline_day_of_week(clock) %}{{ return(adapter.dispatch('trunkline_day_of_week')(clock)) }}{% endmacro %}
{% macro default__trunkline_day_of_week(clock) %}extract(dayofweek from {{ clock }}){% endmacro %}
{% macro snowflake__trunkline_day_of_week(clock) %}mod(dayofweekiso({{ clock }}), 7){% endmacro %}

{# A wall clock as text, to the microsecond: 2013-01-31 09:30:00.000000. A cast to varchar differs in its digits. #}
{% macro trunkline_clock_text(clock) %}{{ return(adapter.dispatch('trunkline_clock_text')(clock)) }}{% endmacro %}
{% macro default__trunkline_clock_text(clock) %}strftime(cast({{ clock }} as datetime), '%Y-%m-%d %H:%M:%S.%f'){% endmacro %}
{% macro snowflake__trunkline_clock_text(clock) %}to_varchar(cast({{ clock }} as datetime), 'YYYY-MM-DD HH24:MI:SS.FF6'){% endmacro %}

{# A SELECT of the moments from `start`, included, to `stop`, excluded, one a `unit` (minute, hour, day); column `moment`.
   Both are SQL expressions for wall clocks. #}
{% macro trunkline_spine(unit, start, stop) %}{{ return(adapter.dispatch('trunkline_spine')(unit, start, stop)) }}{% endmacro %}
{% macro default__trunkline_spine(unit, start, stop) %}
select unnest(range(bounds.first_moment, bounds.end_moment, interval 1 {{ unit }})) as moment
from (select cast({{ start }} as datetime) as first_moment, cast({{ stop }} as datetime) as end_moment) as bounds
{% endmacro %}
{% macro snowflake__trunkline_spine(unit, start, stop) %}
select dateadd({{ unit }}, steps.value::integer, bounds.first_moment) as moment
from (select cast({{ start }} as datetime) as first_moment, cast({{ stop }} as datetime) as end_moment) as bounds,
lateral flatten(input => array_generate_range(0, datediff({{ unit }}, bounds.first_moment, bounds.end_moment) + 1)) as steps
where dateadd({{ unit }}, steps.value::integer, bounds.first_moment) < bounds.end_moment
{% endmacro %}


{# ---- joins ---- #}

{# A join with the last row at or before a moment: what was known then. Rows on the left without one stay, with nulls.
   `match` is one inequality with the left side first, `on` one equality or a list of them:

       select orders.*, prices.price
       from orders
       {{ trunkline_asof_join(ref('prices'), 'prices', 'orders.ordered_at >= prices.valid_from', on='orders.item = prices.item') }}
#}
{% macro trunkline_asof_join(relation, alias, match, on=[]) %}
{%- set equalities = [on] if on is string else on -%}
{{ return(adapter.dispatch('trunkline_asof_join')(relation, alias, match, equalities)) }}
{% endmacro %}
{% macro default__trunkline_asof_join(relation, alias, match, equalities) -%}
asof left join {{ relation }} as {{ alias }} on {{ (equalities + [match]) | join(' and ') }}
{%- endmacro %}
{% macro snowflake__trunkline_asof_join(relation, alias, match, equalities) -%}
asof join {{ relation }} as {{ alias }} match_condition ({{ match }}){% if equalities %} on {{ equalities | join(' and ') }}{% endif %}
{%- endmacro %}


{# ---- hashes and samples ---- #}

{# A whole number from 0 to 2^63 - 1 for one or more SQL expressions, the same in both: 63 bits of an MD5. Nulls count.
   The expressions are text, whole numbers, booleans or dates (anything else is written differently as text by each:
   cast it yourself, clocks with trunkline_clock_text). #}
{% macro trunkline_hash(expressions) %}
{%- set parts = [] -%}
{%- for expression in ([expressions] if expressions is string else expressions) -%}
{%- set text = 'cast(' ~ expression ~ ' as varchar)' -%}
{%- do parts.append("coalesce(cast(length(" ~ text ~ ") as varchar) || ':' || " ~ text ~ ", '-')") -%}
{%- endfor -%}
{{ return(adapter.dispatch('trunkline_hash')(parts | join(' || '))) }}
{% endmacro %}
{% macro default__trunkline_hash(text) %}cast(cast('0x' || substr(md5({{ text }}), 17) as ubigint) % 9223372036854775808 as bigint){% endmacro %}
{% macro snowflake__trunkline_hash(text) %}mod(md5_number_lower64({{ text }}), 9223372036854775808){% endmacro %}

{# True for a share of the rows between 0 and 1, the same rows in both and in every run: those whose `key` (as for
   trunkline_hash) has a small hash. A larger share has all rows of a smaller one. #}
{% macro trunkline_sample(key, share) %}(mod({{ trunkline_hash(key) }}, 1000000) < {{ (share * 1000000) | round | int }}){% endmacro %}


{# ---- what the adapters ask a project for ---- #}

{# dbt writes CREATE FUNCTION for functions/*.py on Snowflake, but dbt-duckdb has no such macro yet, so this project
   brings it: dbt finds it by its name. The plugin trunkline.transform.functions (see profiles.yml) has registered the
   Python code as __py_<name>; this gives it its SQL name and its declared types in the lake. #}
{% macro duckdb__scalar_function_python(target_relation) %}
create or replace macro {{ target_relation.render() }} ({% for a in model.arguments %}{{ a.name }}{{ ", " if not loop.last }}{% endfor %}) as
  cast(__py_{{ model.name }}({% for a in model.arguments %}cast({{ a.name }} as {{ a.data_type }}){{ ", " if not loop.last }}{% endfor %}) as {{ model.returns.data_type }})
{% endmacro %}

{# Every statement of a node on Snowflake carries `trunkline:build:<model>` (tests: `trunkline:test:<model>`) as its
   query tag, after a tag of your own (`query_tag` of the model or of the profile; a JSON object gets a key "trunkline"),
   so that account_usage.query_attribution_history tells what each step costs. #}
{% macro snowflake__set_query_tag() %}
{%- set own = config.get('query_tag') or target.get('query_tag') or '' -%}
{%- set node = (model.get('attached_node') or model.name).split('.')[-1] -%}
{%- set step = ('test' if model.resource_type == 'test' else 'build') ~ ':' ~ node -%}
{%- set fields = fromjson(own, none) if own.startswith('{') else none -%}
{%- if fields is mapping -%}
{%- do fields.update({'trunkline': step}) -%}
{%- set tag = tojson(fields) -%}
{%- else -%}
{%- set tag = (own ~ ' trunkline:' ~ step) | trim -%}
{%- endif -%}
{%- do trunkline_tag_session(tag) -%}
{{ return(target.get('query_tag') or '') }}
{% endmacro %}
{% macro snowflake__unset_query_tag(original_query_tag) %}
{%- do trunkline_tag_session(original_query_tag or '') -%}
{% endmacro %}
{% macro trunkline_tag_session(tag) %}
{%- do run_query("alter session set query_tag = '" ~ (tag | replace('\\', '\\\\') | replace("'", "''")) ~ "'") -%}
{% endmacro %}
