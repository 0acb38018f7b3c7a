select 'x' as item, cast('2013-01-01' as datetime) as valid_from, 10 as price
        union all select 'x', cast('2013-01-02' as datetime), 11
        union all select 'x', cast('2013-01-03' as datetime), 12
