select orders.n, orders.item, price.price
from DB.mini.orders as orders
asof join (select *, valid_from as known_from
from DB.mini.prices
where valid_from is not null

qualify valid_from >= max(valid_from) over (
        partition by item order by valid_from, valid_from rows between unbounded preceding and current row
    )
    and row_number() over (
        partition by item, valid_from order by valid_from desc
    ) = 1
) as price match_condition (orders.ordered_at > price.known_from) on orders.item = price.item
