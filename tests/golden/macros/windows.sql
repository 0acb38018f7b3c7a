with moments as (

    select id, entity, datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        asked_at
        ) as moment_at
    from DB.mini.moments

),

window_1_facts as (

    select
        entity,
        amount as value_1, 
        datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        arrived_at
        ) as loaded_at,
        max(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        arrived_at
        )) over (
            partition by entity, cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) / 7200000000) as bigint)
        ) as tile_loaded_at,
        datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) as happened_at,
        cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) / 7200000000) as bigint) as tile
    from DB.mini.facts
    where happened_at is not null and arrived_at is not null


),

window_1_tiles as (

    select
        entity, tile, count(*) as facts,
        count(value_1) as count_1, sum(value_1) as sum_1,
        min(value_1) as min_1, max(value_1) as max_1, max(loaded_at) as loaded_at

    from window_1_facts
    group by entity, tile

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
            cast(floor(moment_at / 7200000000) as bigint) as last_tile,
            cast(floor((moment_at - 172800000000) / 7200000000) as bigint) as first_tile
        from moments
    ) as moments
    cross join window_1_steps
    where last_tile - step >= first_tile

),

window_1_parts as (

    select
        spans.id, tiles.facts, tiles.count_1, tiles.sum_1, tiles.min_1, tiles.max_1

    from window_1_spans as spans
    inner join window_1_tiles as tiles
        on spans.entity = tiles.entity and spans.tile = tiles.tile
    where not spans.is_end and tiles.loaded_at < spans.moment_at


    union all

    select
        spans.id, 1, case when facts.value_1 is null then 0 else 1 end, facts.value_1, facts.value_1, facts.value_1

    from window_1_spans as spans
    inner join window_1_facts as facts
        on spans.entity = facts.entity and spans.tile = facts.tile
    where facts.happened_at < spans.moment_at
        and facts.happened_at >= spans.moment_at - 172800000000
        and facts.loaded_at < spans.moment_at
        and (spans.is_end or facts.tile_loaded_at >= spans.moment_at)

),

window_1 as (

    select
        id,
        cast(sum(facts) as bigint) as facts_2d,
        cast(sum(count_1) as bigint) as amounts_2d

    from window_1_parts
    group by id

),

window_2_facts as (

    select
        entity,
        amount as value_1, 
        datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        arrived_at
        ) as loaded_at,
        max(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        arrived_at
        )) over (
            partition by entity, cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) / 7200000000) as bigint)
        ) as tile_loaded_at,
        datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) as happened_at,
        cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) / 7200000000) as bigint) as tile
    from DB.mini.facts
    where happened_at is not null and arrived_at is not null


),

window_2_tiles as (

    select
        entity, tile, count(*) as facts,
        count(value_1) as count_1, sum(value_1) as sum_1,
        min(value_1) as min_1, max(value_1) as max_1, max(loaded_at) as loaded_at

    from window_2_facts
    group by entity, tile

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
            cast(floor(moment_at / 7200000000) as bigint) as last_tile,
            cast(floor((moment_at - 172800000000) / 7200000000) as bigint) as first_tile
        from moments
    ) as moments
    cross join window_2_steps
    where last_tile - step >= first_tile

),

window_2_parts as (

    select
        spans.id, tiles.facts, tiles.count_1, tiles.sum_1, tiles.min_1, tiles.max_1

    from window_2_spans as spans
    inner join window_2_tiles as tiles
        on spans.entity = tiles.entity and spans.tile = tiles.tile
    where not spans.is_end and tiles.loaded_at < spans.moment_at


    union all

    select
        spans.id, 1, case when facts.value_1 is null then 0 else 1 end, facts.value_1, facts.value_1, facts.value_1

    from window_2_spans as spans
    inner join window_2_facts as facts
        on spans.entity = facts.entity and spans.tile = facts.tile
    where facts.happened_at < spans.moment_at
        and facts.happened_at >= spans.moment_at - 172800000000
        and facts.loaded_at < spans.moment_at
        and (spans.is_end or facts.tile_loaded_at >= spans.moment_at)

),

window_2 as (

    select
        id,
        cast(sum(sum_1) as double) as paid_2d

    from window_2_parts
    group by id

),

window_3_facts as (

    select
        entity,
        amount as value_1, 
        datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        arrived_at
        ) as loaded_at,
        max(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        arrived_at
        )) over (
            partition by entity, cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) / 900000000) as bigint)
        ) as tile_loaded_at,
        datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) as happened_at,
        cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) / 900000000) as bigint) as tile
    from DB.mini.facts
    where happened_at is not null and arrived_at is not null


),

window_3_tiles as (

    select
        entity, tile, count(*) as facts,
        count(value_1) as count_1, sum(value_1) as sum_1,
        min(value_1) as min_1, max(value_1) as max_1, max(loaded_at) as loaded_at

    from window_3_facts
    group by entity, tile

),

window_3_steps as (

    select 0 as step union all select 1 as step union all select 2 as step union all select 3 as step union all select 4 as step union all select 5 as step union all select 6 as step union all select 7 as step union all select 8 as step union all select 9 as step union all select 10 as step union all select 11 as step union all select 12 as step union all select 13 as step union all select 14 as step union all select 15 as step union all select 16 as step union all select 17 as step union all select 18 as step union all select 19 as step union all select 20 as step union all select 21 as step union all select 22 as step union all select 23 as step union all select 24 as step

),

window_3_spans as (

    select
        moments.*,
        last_tile - step as tile,
        step = 0 or last_tile - step = first_tile as is_end
    from (
        select
            *,
            cast(floor(moment_at / 900000000) as bigint) as last_tile,
            cast(floor((moment_at - 21600000000) / 900000000) as bigint) as first_tile
        from moments
    ) as moments
    cross join window_3_steps
    where last_tile - step >= first_tile

),

window_3_parts as (

    select
        spans.id, tiles.facts, tiles.count_1, tiles.sum_1, tiles.min_1, tiles.max_1

    from window_3_spans as spans
    inner join window_3_tiles as tiles
        on spans.entity = tiles.entity and spans.tile = tiles.tile
    where not spans.is_end and tiles.loaded_at < spans.moment_at


    union all

    select
        spans.id, 1, case when facts.value_1 is null then 0 else 1 end, facts.value_1, facts.value_1, facts.value_1

    from window_3_spans as spans
    inner join window_3_facts as facts
        on spans.entity = facts.entity and spans.tile = facts.tile
    where facts.happened_at < spans.moment_at
        and facts.happened_at >= spans.moment_at - 21600000000
        and facts.loaded_at < spans.moment_at
        and (spans.is_end or facts.tile_loaded_at >= spans.moment_at)

),

window_3 as (

    select
        id,
        cast(sum(sum_1) as double) / nullif(sum(count_1), 0) as mean_6h,
        min(min_1) as least_6h

    from window_3_parts
    group by id

),

window_4_facts as (

    select
        entity,
        amount as value_1, 
        datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        arrived_at
        ) as loaded_at,
        max(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        arrived_at
        )) over (
            partition by entity, cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) / 25200000000) as bigint)
        ) as tile_loaded_at,
        datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) as happened_at,
        cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) / 25200000000) as bigint) as tile
    from DB.mini.facts
    where happened_at is not null and arrived_at is not null


),

window_4_tiles as (

    select
        entity, tile, count(*) as facts,
        count(value_1) as count_1, sum(value_1) as sum_1,
        min(value_1) as min_1, max(value_1) as max_1, max(loaded_at) as loaded_at

    from window_4_facts
    group by entity, tile

),

window_4_steps as (

    select 0 as step union all select 1 as step union all select 2 as step union all select 3 as step union all select 4 as step union all select 5 as step union all select 6 as step union all select 7 as step union all select 8 as step union all select 9 as step union all select 10 as step union all select 11 as step union all select 12 as step union all select 13 as step union all select 14 as step union all select 15 as step union all select 16 as step union all select 17 as step union all select 18 as step union all select 19 as step union all select 20 as step union all select 21 as step union all select 22 as step union all select 23 as step union all select 24 as step

),

window_4_spans as (

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
    cross join window_4_steps
    where last_tile - step >= first_tile

),

window_4_parts as (

    select
        spans.id, tiles.facts, tiles.count_1, tiles.sum_1, tiles.min_1, tiles.max_1

    from window_4_spans as spans
    inner join window_4_tiles as tiles
        on spans.entity = tiles.entity and spans.tile = tiles.tile
    where not spans.is_end and tiles.loaded_at < spans.moment_at


    union all

    select
        spans.id, 1, case when facts.value_1 is null then 0 else 1 end, facts.value_1, facts.value_1, facts.value_1

    from window_4_spans as spans
    inner join window_4_facts as facts
        on spans.entity = facts.entity and spans.tile = facts.tile
    where facts.happened_at < spans.moment_at
        and facts.happened_at >= spans.moment_at - 604800000000
        and facts.loaded_at < spans.moment_at
        and (spans.is_end or facts.tile_loaded_at >= spans.moment_at)

),

window_4 as (

    select
        id,
        max(max_1) as most_1w

    from window_4_parts
    group by id

)

select
    moments.id,
    coalesce(window_1.facts_2d, 0) as facts_2d,
    coalesce(window_1.amounts_2d, 0) as amounts_2d,
    window_2.paid_2d,
    window_3.mean_6h,
    window_3.least_6h,
    window_4.most_1w

from moments
left join window_1 on moments.id = window_1.id
left join window_2 on moments.id = window_2.id
left join window_3 on moments.id = window_3.id
left join window_4 on moments.id = window_4.id
