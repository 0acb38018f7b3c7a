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
        happened_at
        ) as happened_at,
        cast(floor(datediff(
        microsecond,
        cast('2000-01-01' as datetime),
        happened_at
        ) / 25200000000) as bigint) as tile
    from DB.mini.facts
    where happened_at is not null


),

window_1_tiles as (

    select
        entity, tile, count(*) as facts,
        count(value_1) as count_1, sum(value_1) as sum_1,
        min(value_1) as min_1, max(value_1) as max_1

    from window_1_facts
    group by entity, tile

),

window_1_steps as (

    select 0 as step union all select 1 as step union all select 2 as step union all select 3 as step union all select 4 as step union all select 5 as step union all select 6 as step union all select 7 as step

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
            cast(floor((moment_at - 172800000000) / 25200000000) as bigint) as first_tile
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
    where not spans.is_end


    union all

    select
        spans.id, 1, case when facts.value_1 is null then 0 else 1 end, facts.value_1, facts.value_1, facts.value_1

    from window_1_spans as spans
    inner join window_1_facts as facts
        on spans.entity = facts.entity and spans.tile = facts.tile
    where facts.happened_at < spans.moment_at
        and facts.happened_at >= spans.moment_at - 172800000000
        and spans.is_end

),

window_1 as (

    select
        id,
        cast(sum(facts) as bigint) as facts_2d,
        cast(sum(sum_1) as double) as paid_2d

    from window_1_parts
    group by id

)

select
    moments.id,
    coalesce(window_1.facts_2d, 0) as facts_2d,
    window_1.paid_2d

from moments
left join window_1 on moments.id = window_1.id
