"""Charts of a status and of its time series, as Plotly figures: plain data, no queries. One module a chart.

- Instants are naive UTC and every tick and hover text is written here, because Plotly drops zones.
- Plotly reads every text as pseudo-HTML, so names that services chose pass through `plain`.
- Colours are names of the page's palette, "var(--ink)"; the browser puts the theme's values in.
- No default template (it would add 7 KB to each figure), no mode bar, no dragging: zoom is navigation.
"""

from .allocation import allocation_against_observed, allocation_height
from .burn_rates import burn_rate_lines
from .error_budget import burn_down, forecast_sentence, turning
from .frame import HEIGHT_PX, Chart, Size, time_ticks
from .heatmap import HEATMAP_HEIGHT_PX, duration_heatmap
from .marks import Marker
from .over_time import percentile_lines
from .tail_path import TAIL_PATH_HEIGHT_PX, budget_over_tail_path
from .values import plain

__all__ = [
    "HEATMAP_HEIGHT_PX",
    "HEIGHT_PX",
    "TAIL_PATH_HEIGHT_PX",
    "Chart",
    "Marker",
    "Size",
    "allocation_against_observed",
    "allocation_height",
    "budget_over_tail_path",
    "burn_down",
    "burn_rate_lines",
    "duration_heatmap",
    "forecast_sentence",
    "percentile_lines",
    "plain",
    "time_ticks",
    "turning",
]
