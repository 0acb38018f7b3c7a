select 1 as n, 'x' as item, cast('2013-01-02' as datetime) as ordered_at
        union all select 2, 'x', cast('2012-01-02' as datetime)
        union all select 3, 'y', cast('2013-01-02' as datetime)
        union all select 4, 'x', cast('2013-02-01' as datetime)
