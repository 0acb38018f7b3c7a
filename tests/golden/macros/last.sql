select moments.id, known.happened_at, known.arrived_at
        from DB.mini.moments as moments
        asof join (select *, greatest(happened_at, arrived_at) as known_from
from DB.mini.facts
where happened_at is not null and arrived_at is not null

qualify happened_at >= max(happened_at) over (
        partition by entity order by greatest(happened_at, arrived_at), happened_at rows between unbounded preceding and current row
    )
    and row_number() over (
        partition by entity, greatest(happened_at, arrived_at) order by happened_at desc
    ) = 1
) as known match_condition (moments.asked_at > known.known_from) on moments.entity = known.entity
