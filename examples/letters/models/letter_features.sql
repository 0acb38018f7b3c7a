-- One row a print. 1,332 of the 20,000 are there more than once: a copy in the test part would be known by heart.
with prints as (
    select distinct
    x_box, y_box, width, height, on_pixels, x_mean, y_mean, x_variance,
    y_variance, xy_correlation, x2y_mean, xy2_mean, x_edges, x_edges_by_y, y_edges, y_edges_by_x,
    letter
    from {{ source('prints', 'letters') }}
)

select
    md5(concat_ws('|', x_box, y_box, width, height, on_pixels, x_mean, y_mean, x_variance,
        y_variance, xy_correlation, x2y_mean, xy2_mean, x_edges, x_edges_by_y, y_edges, y_edges_by_x, letter)) as print_id,
    *
from prints
