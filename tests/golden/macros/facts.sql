with numbers as (
select dateadd(hour, steps.value::integer, bounds.first_moment) as moment
from (select cast('2013-01-01' as datetime) as first_moment, cast('2013-01-21' as datetime) as end_moment) as bounds,
lateral flatten(input => array_generate_range(0, datediff(hour, bounds.first_moment, bounds.end_moment) + 1)) as steps
where dateadd(hour, steps.value::integer, bounds.first_moment) < bounds.end_moment
),
        hashed as (
            select mod(md5_number_lower64(coalesce(cast(length(cast(to_varchar(cast(moment as datetime), 'YYYY-MM-DD HH24:MI:SS.FF6') as varchar)) as varchar) || ':' || cast(to_varchar(cast(moment as datetime), 'YYYY-MM-DD HH24:MI:SS.FF6') as varchar), '-') || coalesce(cast(length(cast('time' as varchar)) as varchar) || ':' || cast('time' as varchar), '-')), 9223372036854775808) as a,
                mod(md5_number_lower64(coalesce(cast(length(cast(to_varchar(cast(moment as datetime), 'YYYY-MM-DD HH24:MI:SS.FF6') as varchar)) as varchar) || ':' || cast(to_varchar(cast(moment as datetime), 'YYYY-MM-DD HH24:MI:SS.FF6') as varchar), '-') || coalesce(cast(length(cast('rest' as varchar)) as varchar) || ':' || cast('rest' as varchar), '-')), 9223372036854775808) as b
            from numbers
        )
        select
            'e' || cast(mod(b, 4) as varchar) as entity,
            

    dateadd(
        minute,
        30 * mod(a, 960),
        cast('2013-01-01' as datetime)
        )

 as happened_at,
            -- most arrive within the hour, some days later
            

    dateadd(
        minute,
        30 * mod(a, 960) + mod(a, 60) + case when mod(b, 5) = 0 then mod(a, 9000) else 0 end,
        cast('2013-01-01' as datetime)
        )

 as arrived_at,
            case when mod(b, 7) > 0 then cast(mod(a, 1000) as integer) - 300 end as amount
        from hashed
