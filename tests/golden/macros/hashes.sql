with things as (
            select 1 as n, 'Snowflake' as a, cast(1 as bigint) as b, true as c, cast('2013-01-31' as date) as d
            union all select 2, null, -7, false, null
            union all select 3, '', null, null, cast('1999-12-31' as date)
            union all select 4, 'é¥😀''/', 9223372036854775807, true, cast('2020-02-29' as date)
            union all select 5, '-', 0, null, null
        )
        select n, mod(md5_number_lower64(coalesce(cast(length(cast(a as varchar)) as varchar) || ':' || cast(a as varchar), '-')), 9223372036854775808) as one, mod(md5_number_lower64(coalesce(cast(length(cast(a as varchar)) as varchar) || ':' || cast(a as varchar), '-') || coalesce(cast(length(cast(b as varchar)) as varchar) || ':' || cast(b as varchar), '-') || coalesce(cast(length(cast(c as varchar)) as varchar) || ':' || cast(c as varchar), '-') || coalesce(cast(length(cast(d as varchar)) as varchar) || ':' || cast(d as varchar), '-')), 9223372036854775808) as four from things
