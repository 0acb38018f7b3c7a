-- one row an order, with only what was known when it was placed
select
    order_id,
    ordered_at,
    country,
    items,
    amount,
    amount / nullif(items, 0) as amount_per_item,
    first_order,
    extract(hour from ordered_at) as hour,
    returned
from {{ source('shop', 'orders') }}
