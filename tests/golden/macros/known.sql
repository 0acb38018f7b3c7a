select orders.n, prices.price, any_price.price as any_price
        from DB.mini.orders as orders
        asof join DB.mini.prices as prices match_condition (orders.ordered_at > prices.valid_from) on orders.item = prices.item
        asof join DB.mini.prices as any_price match_condition (orders.ordered_at >= any_price.valid_from)
