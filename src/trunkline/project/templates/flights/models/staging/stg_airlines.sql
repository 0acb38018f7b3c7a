-- One row an airline: the row that was loaded last.
select
    carrier,
    name as airline
from {{ source('nyc', 'airlines') }}
qualify row_number() over (partition by carrier order by _loaded_at desc) = 1
