select dateadd(hour, steps.value::integer, bounds.first_moment) as moment
from (select cast('2013-03-09 10:30:00' as datetime) as first_moment, cast('2013-03-12 00:45:00' as datetime) as end_moment) as bounds,
lateral flatten(input => array_generate_range(0, datediff(hour, bounds.first_moment, bounds.end_moment) + 1)) as steps
where dateadd(hour, steps.value::integer, bounds.first_moment) < bounds.end_moment
