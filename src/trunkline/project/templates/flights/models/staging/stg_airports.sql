-- One row an airport: the row that was loaded last.
select
    faa as airport,
    name as airport_name,
    tzone as time_zone
from {{ source('nyc', 'airports') }}
qualify row_number() over (partition by faa order by _loaded_at desc) = 1
