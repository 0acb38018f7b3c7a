-- One row a plane: the row that was loaded last.
select
    tailnum as tail_number,
    year as built,
    manufacturer,
    model,
    seats
from {{ source('nyc', 'planes') }}
qualify row_number() over (partition by tailnum order by _loaded_at desc) = 1
