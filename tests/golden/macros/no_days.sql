select * from (
select dateadd(day, steps.value::integer, bounds.first_moment) as moment
from (select cast('2013-03-09' as datetime) as first_moment, cast('2013-03-01' as datetime) as end_moment) as bounds,
lateral flatten(input => array_generate_range(0, datediff(day, bounds.first_moment, bounds.end_moment) + 1)) as steps
where dateadd(day, steps.value::integer, bounds.first_moment) < bounds.end_moment
) as days
