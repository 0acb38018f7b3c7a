with minutes as (
select dateadd(minute, steps.value::integer, bounds.first_moment) as moment
from (select cast('2013-01-01' as datetime) as first_moment, cast('2013-01-08' as datetime) as end_moment) as bounds,
lateral flatten(input => array_generate_range(0, datediff(minute, bounds.first_moment, bounds.end_moment) + 1)) as steps
where dateadd(minute, steps.value::integer, bounds.first_moment) < bounds.end_moment
),
        keys as (select to_varchar(cast(moment as datetime), 'YYYY-MM-DD HH24:MI:SS.FF6') as key from minutes)
        select
            key,
            (mod(mod(md5_number_lower64(coalesce(cast(length(cast(key as varchar)) as varchar) || ':' || cast(key as varchar), '-')), 9223372036854775808), 1000000) < 250000) as quarter,
            (mod(mod(md5_number_lower64(coalesce(cast(length(cast(key as varchar)) as varchar) || ':' || cast(key as varchar), '-')), 9223372036854775808), 1000000) < 500000) as half
        from keys
