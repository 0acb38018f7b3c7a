with moments as (

    select n, item, datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        ordered_at
        ) as moment_at
    from DB.mini.orders

),

window_1_facts as (

    select
        item,
        quantity as value_1, 
        datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        convert_timezone('UTC', _loaded_at)::timestamp_ntz
        ) as loaded_at,
        max(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        convert_timezone('UTC', _loaded_at)::timestamp_ntz
        )) over (
            partition by item, cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        sold_at
        ) / 25200000000) as bigint)
        ) as tile_loaded_at,
        datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        sold_at
        ) as happened_at,
        cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        sold_at
        ) / 25200000000) as bigint) as tile
    from DB.mini.sales
    where sold_at is not null and convert_timezone('UTC', _loaded_at)::timestamp_ntz is not null


),

window_1_tiles as (

    select
        item, tile, count(*) as facts,
        count(value_1) as count_1, sum(value_1) as sum_1,
        min(value_1) as min_1, max(value_1) as max_1, max(loaded_at) as loaded_at

    from window_1_facts
    group by item, tile

),

window_1_steps as (

    select 0 as step union all select 1 as step union all select 2 as step union all select 3 as step union all select 4 as step union all select 5 as step union all select 6 as step union all select 7 as step union all select 8 as step union all select 9 as step union all select 10 as step union all select 11 as step union all select 12 as step union all select 13 as step union all select 14 as step union all select 15 as step union all select 16 as step union all select 17 as step union all select 18 as step union all select 19 as step union all select 20 as step union all select 21 as step union all select 22 as step union all select 23 as step union all select 24 as step

),

window_1_spans as (

    select
        moments.*,
        last_tile - step as tile,
        step = 0 or last_tile - step = first_tile as is_end
    from (
        select
            *,
            cast(floor(moment_at / 25200000000) as bigint) as last_tile,
            cast(floor((moment_at - 604800000000) / 25200000000) as bigint) as first_tile
        from moments
    ) as moments
    cross join window_1_steps
    where last_tile - step >= first_tile

),

window_1_parts as (

    select
        spans.n, tiles.facts, tiles.count_1, tiles.sum_1, tiles.min_1, tiles.max_1

    from window_1_spans as spans
    inner join window_1_tiles as tiles
        on spans.item = tiles.item and spans.tile = tiles.tile
    where not spans.is_end and tiles.loaded_at < spans.moment_at


    union all

    select
        spans.n, 1, case when facts.value_1 is null then 0 else 1 end, facts.value_1, facts.value_1, facts.value_1

    from window_1_spans as spans
    inner join window_1_facts as facts
        on spans.item = facts.item and spans.tile = facts.tile
    where facts.happened_at < spans.moment_at
        and facts.happened_at >= spans.moment_at - 604800000000
        and facts.loaded_at < spans.moment_at
        and (spans.is_end or facts.tile_loaded_at >= spans.moment_at)

),

window_1 as (

    select
        n,
        cast(sum(facts) as bigint) as sales_7d,
        cast(sum(sum_1) as double) as sold_7d

    from window_1_parts
    group by n

),

window_2_facts as (

    select
        item,
        quantity as value_1, 
        datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        convert_timezone('UTC', _loaded_at)::timestamp_ntz
        ) as loaded_at,
        max(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        convert_timezone('UTC', _loaded_at)::timestamp_ntz
        )) over (
            partition by item, cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        sold_at
        ) / 324000000000) as bigint)
        ) as tile_loaded_at,
        datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        sold_at
        ) as happened_at,
        cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        sold_at
        ) / 324000000000) as bigint) as tile
    from DB.mini.sales
    where sold_at is not null and convert_timezone('UTC', _loaded_at)::timestamp_ntz is not null


),

window_2_tiles as (

    select
        item, tile, count(*) as facts,
        count(value_1) as count_1, sum(value_1) as sum_1,
        min(value_1) as min_1, max(value_1) as max_1, max(loaded_at) as loaded_at

    from window_2_facts
    group by item, tile

),

window_2_steps as (

    select 0 as step union all select 1 as step union all select 2 as step union all select 3 as step union all select 4 as step union all select 5 as step union all select 6 as step union all select 7 as step union all select 8 as step union all select 9 as step union all select 10 as step union all select 11 as step union all select 12 as step union all select 13 as step union all select 14 as step union all select 15 as step union all select 16 as step union all select 17 as step union all select 18 as step union all select 19 as step union all select 20 as step union all select 21 as step union all select 22 as step union all select 23 as step union all select 24 as step

),

window_2_spans as (

    select
        moments.*,
        last_tile - step as tile,
        step = 0 or last_tile - step = first_tile as is_end
    from (
        select
            *,
            cast(floor(moment_at / 324000000000) as bigint) as last_tile,
            cast(floor((moment_at - 7776000000000) / 324000000000) as bigint) as first_tile
        from moments
    ) as moments
    cross join window_2_steps
    where last_tile - step >= first_tile

),

window_2_parts as (

    select
        spans.n, tiles.facts, tiles.count_1, tiles.sum_1, tiles.min_1, tiles.max_1

    from window_2_spans as spans
    inner join window_2_tiles as tiles
        on spans.item = tiles.item and spans.tile = tiles.tile
    where not spans.is_end and tiles.loaded_at < spans.moment_at


    union all

    select
        spans.n, 1, case when facts.value_1 is null then 0 else 1 end, facts.value_1, facts.value_1, facts.value_1

    from window_2_spans as spans
    inner join window_2_facts as facts
        on spans.item = facts.item and spans.tile = facts.tile
    where facts.happened_at < spans.moment_at
        and facts.happened_at >= spans.moment_at - 7776000000000
        and facts.loaded_at < spans.moment_at
        and (spans.is_end or facts.tile_loaded_at >= spans.moment_at)

),

window_2 as (

    select
        n,
        max(max_1) as largest_90d

    from window_2_parts
    group by n

)

select
    moments.n,
    coalesce(window_1.sales_7d, 0) as sales_7d,
    window_1.sold_7d,
    window_2.largest_90d

from moments
left join window_1 on moments.n = window_1.n
left join window_2 on moments.n = window_2.n
