select 'x' as item, cast('2013-01-01 10:00:00' as datetime) as sold_at, 2 as quantity,
            cast('2013-01-01 11:00:00+00:00' as timestamptz) as _loaded_at
        union all select 'x', cast('2013-01-01' as datetime), 5, cast('2013-01-04 00:00:00+00:00' as timestamptz)
