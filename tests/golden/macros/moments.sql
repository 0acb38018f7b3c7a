with hours as (
select dateadd(hour, steps.value::integer, bounds.first_moment) as moment
from (select cast('2012-12-31' as datetime) as first_moment, cast('2013-01-25' as datetime) as end_moment) as bounds,
lateral flatten(input => array_generate_range(0, datediff(hour, bounds.first_moment, bounds.end_moment) + 1)) as steps
where dateadd(hour, steps.value::integer, bounds.first_moment) < bounds.end_moment
),
        entities as (select distinct entity from DB.mini.facts union all select 'nobody')
        select entity || ' ' || to_varchar(cast(moment as datetime), 'YYYY-MM-DD HH24:MI:SS.FF6') as id, entity, moment as asked_at
        from hours cross join entities
