{# What a model can know at a moment: values and windows of facts as of the time of prediction, on DuckDB and Snowflake
   alike. `trunkline init` writes this file and never changes one that is there. How to use it: docs/as-of.md.

   Everywhere `event_time` is when a thing happened and `loaded_at` when we came to know it: with it, only what had
   arrived by then counts ("what was known then"); without it, all that had happened by then. Clocks are wall clocks of
   UTC: trunkline_utc() makes one of an instant such as _loaded_at. A fact of the very moment itself does not count. #}


{# ---- the last value ---- #}

{# A join with the last fact of an entity that was known before a moment. Rows on the left without one stay, with nulls.
   `on` maps a column of the facts to what it equals on the left:

       select orders.*, price.amount
       from orders
       {{ trunkline_last_known(ref('prices'), 'price', at='orders.ordered_at', on={'item': 'orders.item'},
                               event_time='valid_from', loaded_at=trunkline_utc('_loaded_at')) }}
#}
{% macro trunkline_last_known(facts, alias, at, on, event_time, loaded_at=none) %}
{%- set equalities = [] -%}
{%- for column, left in on.items() %}{% do equalities.append(left ~ ' = ' ~ alias ~ '.' ~ column) %}{% endfor -%}
{%- set known = '(' ~ trunkline_known_from(facts, on.keys() | list, event_time, loaded_at) ~ ')' -%}
{{ return(trunkline_asof_join(known, alias, at ~ ' > ' ~ alias ~ '.known_from', on=equalities)) }}
{% endmacro %}

{# A SELECT of those facts that were at some time the latest known of their entity, and since when: `known_from`. A fact
   that arrives after a later one never is. Of facts equal in time the one that arrived last counts. #}
{% macro trunkline_known_from(facts, entity, event_time, loaded_at=none) %}
{%- set known_from = event_time if loaded_at is none else 'greatest(' ~ event_time ~ ', ' ~ loaded_at ~ ')' -%}
{%- set of_entity = 'partition by ' ~ (entity | join(', ')) if entity else '' -%}
select *, {{ known_from }} as known_from
from {{ facts }}
where {{ event_time }} is not null{% if loaded_at is not none %} and {{ loaded_at }} is not null{% endif %}

qualify {{ event_time }} >= max({{ event_time }}) over (
        {{ of_entity }} order by {{ known_from }}, {{ event_time }} rows between unbounded preceding and current row
    )
    and row_number() over (
        {{ 'partition by ' ~ ((entity + [known_from]) | join(', ')) }} order by {{ event_time }} desc
    ) = 1
{% endmacro %}


{# ---- windows ---- #}

{# A SELECT of `key` and one column a feature: an aggregate of an entity's facts in a window that ends before a moment.

       {{ trunkline_windows(
           moments=ref('orders'), key='order_id', at='ordered_at', entity='customer',
           facts=ref('payments'), event_time='paid_at', loaded_at=trunkline_utc('_loaded_at'),
           features={
               'payments_7d': {'count': '*', 'window': '7 day'},
               'paid_7d': {'sum': 'amount', 'window': '7 day'},
               'largest_90d': {'max': 'amount', 'window': '90 day'},
           },
       ) }}

   Aggregates: count, sum, avg, min, max. Where there was no fact, counts are 0 and the others null; sums and averages
   are doubles. `key` must be unique in `moments`; `entity` is a column, or a list of columns, of both.

   Facts are first summed up by tiles, a 24th of a window long unless `tile` says otherwise ('1 hour'); a window is its
   whole tiles and the single facts of the two at its ends, so it is exact to the microsecond and costs no more where
   facts are many. Tiles with a fact that arrived after the moment are taken apart. #}
{% macro trunkline_windows(moments, key, at, entity, facts, event_time, features, loaded_at=none, tile=none) %}
{%- set entities = [entity] if entity is string else entity -%}
{%- set windows = {} -%}
{%- for name, feature in features.items() -%}
{%- set aggregate = (feature.keys() | reject('equalto', 'window') | list | first) -%}
{%- if 'window' not in feature or feature | length != 2 or aggregate not in ['count', 'sum', 'avg', 'min', 'max'] -%}
{%- do exceptions.raise_compiler_error(
    "trunkline_windows: feature '" ~ name ~ "' must be like {'sum': 'amount', 'window': '7 day'}, with one of count, sum, avg, min, max"
) -%}
{%- endif -%}
{%- if feature.window not in windows %}{% do windows.update({feature.window: []}) %}{% endif -%}
{%- do windows[feature.window].append({'name': name, 'aggregate': aggregate, 'of': feature[aggregate]}) -%}
{%- endfor -%}
with moments as (

    select {{ key }}, {{ entities | join(', ') }}, {{ trunkline_microseconds(at) }} as moment_at
    from {{ moments }}

)
{%- for window, wanted in windows.items() -%}
{%- set length = trunkline_length(window) -%}
{%- set tile_length = trunkline_length(tile) if tile is not none else [length // 24, 1] | max -%}
{%- set steps = (length + tile_length - 1) // tile_length -%}
{%- if steps > 1000 %}{% do exceptions.raise_compiler_error(
    "trunkline_windows: a window of '" ~ window ~ "' has " ~ steps ~ " tiles of '" ~ tile ~ "'; 1000 is the most"
) %}{% endif -%}
{%- set values = wanted | map(attribute='of') | reject('equalto', '*') | unique | list -%}
{%- set w = 'window_' ~ loop.index -%},

{{ w }}_facts as (

    select
        {{ entities | join(', ') }},
        {% for value in values %}{{ value }} as value_{{ loop.index }}, {% endfor %}
        {% if loaded_at is not none -%}
        {{ trunkline_microseconds(loaded_at) }} as loaded_at,
        max({{ trunkline_microseconds(loaded_at) }}) over (
            partition by {{ entities | join(', ') }}, {{ trunkline_tile(event_time, tile_length) }}
        ) as tile_loaded_at,
        {% endif -%}
        {{ trunkline_microseconds(event_time) }} as happened_at,
        {{ trunkline_tile(event_time, tile_length) }} as tile
    from {{ facts }}
    where {{ event_time }} is not null{% if loaded_at is not none %} and {{ loaded_at }} is not null{% endif %}


),

{{ w }}_tiles as (

    select
        {{ entities | join(', ') }}, tile, count(*) as facts
        {%- for value in values %},
        count(value_{{ loop.index }}) as count_{{ loop.index }}, sum(value_{{ loop.index }}) as sum_{{ loop.index }},
        min(value_{{ loop.index }}) as min_{{ loop.index }}, max(value_{{ loop.index }}) as max_{{ loop.index }}
        {%- endfor %}
        {%- if loaded_at is not none %}, max(loaded_at) as loaded_at{% endif %}

    from {{ w }}_facts
    group by {{ entities | join(', ') }}, tile

),

{{ w }}_steps as (

    {% for step in range(steps + 1) %}select {{ step }} as step{{ " union all " if not loop.last }}{% endfor %}

),

{{ w }}_spans as (

    select
        moments.*,
        last_tile - step as tile,
        step = 0 or last_tile - step = first_tile as is_end
    from (
        select
            *,
            cast(floor(moment_at / {{ tile_length }}) as bigint) as last_tile,
            cast(floor((moment_at - {{ length }}) / {{ tile_length }}) as bigint) as first_tile
        from moments
    ) as moments
    cross join {{ w }}_steps
    where last_tile - step >= first_tile

),

{{ w }}_parts as (

    select
        spans.{{ key }}, tiles.facts
        {%- for value in values %}, tiles.count_{{ loop.index }}, tiles.sum_{{ loop.index }}, tiles.min_{{ loop.index }}, tiles.max_{{ loop.index }}{% endfor %}

    from {{ w }}_spans as spans
    inner join {{ w }}_tiles as tiles
        on {% for column in entities %}spans.{{ column }} = tiles.{{ column }} and {% endfor %}spans.tile = tiles.tile
    where not spans.is_end{% if loaded_at is not none %} and tiles.loaded_at < spans.moment_at{% endif %}


    union all

    select
        spans.{{ key }}, 1
        {%- for value in values %}, case when facts.value_{{ loop.index }} is null then 0 else 1 end, facts.value_{{ loop.index }}, facts.value_{{ loop.index }}, facts.value_{{ loop.index }}{% endfor %}

    from {{ w }}_spans as spans
    inner join {{ w }}_facts as facts
        on {% for column in entities %}spans.{{ column }} = facts.{{ column }} and {% endfor %}spans.tile = facts.tile
    where facts.happened_at < spans.moment_at
        and facts.happened_at >= spans.moment_at - {{ length }}
        {%- if loaded_at is not none %}
        and facts.loaded_at < spans.moment_at
        and (spans.is_end or facts.tile_loaded_at >= spans.moment_at)
        {%- else %}
        and spans.is_end
        {%- endif %}

),

{{ w }} as (

    select
        {{ key }}
        {%- for feature in wanted %},
        {%- set i = values.index(feature.of) + 1 if feature.of != '*' else 0 %}
        {% if feature.aggregate == 'count' -%}
        cast(sum({{ 'count_' ~ i if i else 'facts' }}) as bigint)
        {%- elif feature.aggregate == 'sum' -%}
        cast(sum(sum_{{ i }}) as double)
        {%- elif feature.aggregate == 'avg' -%}
        cast(sum(sum_{{ i }}) as double) / nullif(sum(count_{{ i }}), 0)
        {%- else -%}
        {{ feature.aggregate }}({{ feature.aggregate }}_{{ i }})
        {%- endif %} as {{ feature.name }}
        {%- endfor %}

    from {{ w }}_parts
    group by {{ key }}

)
{%- endfor %}

select
    moments.{{ key }}
    {%- for wanted in windows.values() -%}
    {%- set w = 'window_' ~ loop.index -%}
    {%- for feature in wanted %},
    {% if feature.aggregate == 'count' %}coalesce({{ w }}.{{ feature.name }}, 0) as {{ feature.name }}{% else %}{{ w }}.{{ feature.name }}{% endif %}
    {%- endfor -%}
    {%- endfor %}

from moments
{%- for _ in windows %}
left join window_{{ loop.index }} on moments.{{ key }} = window_{{ loop.index }}.{{ key }}
{%- endfor %}

{% endmacro %}

{# The tile of a clock: a whole number. #}
{% macro trunkline_tile(clock, length) %}cast(floor({{ trunkline_microseconds(clock) }} / {{ length }}) as bigint){% endmacro %}

{# A clock as microseconds since 2000, a whole number. #}
{% macro trunkline_microseconds(clock) %}{{ return(datediff("cast('2000-01-01' as datetime)", clock, 'microsecond')) }}{% endmacro %}

{# '7 day' in microseconds. Weeks, days, hours, minutes and seconds. #}
{% macro trunkline_length(text) %}
{%- set parts = (text | string).split() -%}
{%- set seconds = {'second': 1, 'minute': 60, 'hour': 3600, 'day': 86400, 'week': 604800} -%}
{%- set unit = parts[-1].rstrip('s') -%}
{%- if parts | length != 2 or unit not in seconds or (parts[0] | int) < 1 -%}
{%- do exceptions.raise_compiler_error("'" ~ text ~ "' is no length of time: write it like '7 day' or '90 minute'") -%}
{%- endif -%}
{{ return((parts[0] | int) * seconds[unit] * 1000000) }}
{% endmacro %}
