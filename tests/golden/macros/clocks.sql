select
            moment,
            to_varchar(cast(moment as datetime), 'YYYY-MM-DD HH24:MI:SS.FF6') as as_text,
            mod(dayofweekiso(moment), 7) as day_of_week,
            convert_timezone('UTC', 'America/New_York', moment) as new_york,
            convert_timezone('Asia/Kathmandu', 'UTC', moment) as utc_of_kathmandu
        from DB.mini.hours
