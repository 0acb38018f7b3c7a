select convert_timezone('UTC', cast('2013-07-01 12:00:00+02:00' as timestamptz))::timestamp_ntz as utc
