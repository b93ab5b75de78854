"""How often a product was looked at within an hour of event time."""

from collections.abc import Sequence

import numpy as np

from streams.operators.columns import WindowedColumns
from streams.products import ProductViewed
from tables.products import ProductHour


def count_views(views: Sequence[ProductViewed], hours: WindowedColumns[ProductHour]) -> None:
    """Add each look that is not late to its product's hour."""
    times_ms = np.array([view.timestamp for view in views], np.int64)
    rows = hours.rows([view.data.product_id for view in views], times_ms)
    rows.add("views", 1)
