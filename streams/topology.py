"""START HERE: each flow in one row."""

from agents.enriched_orders import agent as enriched_orders
from agents.high_value_orders import agent as high_value_orders
from agents.order_countries import agent as order_countries
from agents.order_countries import rules as order_countries_rules
from agents.order_lines import agent as order_lines
from agents.order_payments import agent as order_payments
from agents.order_payments import rules as order_payments_rules
from agents.order_stats import agent as order_stats
from agents.order_stats import rules as order_stats_rules
from agents.order_value_quantiles import agent as order_value_quantiles
from agents.order_value_quantiles import rules as order_value_quantiles_rules
from agents.orders_deduplicated import agent as orders_deduplicated
from agents.orders_deduplicated import rules as orders_deduplicated_rules
from agents.product_sales import agent as product_sales
from agents.product_sales import rules as product_sales_rules
from agents.product_views import agent as product_views
from agents.products import agent as products
from agents.spending_spikes import agent as spending_spikes
from agents.spending_spikes import rules as spending_spikes_rules
from agents.top_products import agent as top_products
from agents.top_products import rules as top_products_rules
from agents.user_order_minutes import agent as user_order_minutes
from agents.user_sessions import agent as user_sessions
from agents.user_sessions import rules as user_sessions_rules
from agents.users import agent as users
from agents.vip_upgrades import agent as vip_upgrades
from streams.engine.definitions import Flow, Topology
from streams.topics import (
    DEAD_LETTERS,
    ENRICHED_ORDERS,
    HIGH_VALUE_ORDERS,
    LATE_RECORDS,
    ORDER_LINES,
    ORDER_PAYMENTS,
    ORDER_STATS,
    ORDER_VALUE_QUANTILES,
    ORDER_VALUES,
    ORDERS,
    ORDERS_DEDUPLICATED,
    PAYMENTS,
    PRODUCT_REVENUES,
    PRODUCT_SALES,
    PRODUCTS,
    SPENDING_SPIKES,
    STOCK_ALERTS,
    TOP_PRODUCTS,
    UNPAID_ORDERS,
    USER_SESSIONS,
    USERS,
    VIP_UPGRADES,
)
from tables import definitions as tables
from tables import products as of_products
from tables import sales, timed

# fmt: off
FLOWS = (
    Flow(users.register, "users", reads=(USERS,), keeps=tables.USERS),
    Flow(high_value_orders.register, "high_value_orders", reads=(ORDERS,), emits=HIGH_VALUE_ORDERS),
    Flow(vip_upgrades.register, "vip_upgrades", reads=(ORDERS,), keeps=tables.USER_ORDERS, emits=VIP_UPGRADES),
    Flow(user_order_minutes.register, "user_order_minutes", reads=(ORDERS,), keeps=tables.USER_ORDER_MINUTES),
    Flow(enriched_orders.register, "enriched_orders", reads=(ORDERS,), joins=(tables.USERS,), emits=ENRICHED_ORDERS),
)
# fmt: on

# What is open until event time closes it: beside the main flows, so that those stay as fast as they are.
# fmt: off
WINDOW_FLOWS = (
    Flow(order_payments.register, "order_payments", reads=(ORDERS, PAYMENTS), keeps=timed.ORDER_PAYMENTS, fires=order_payments_rules.unpaid, emits=(ORDER_PAYMENTS, UNPAID_ORDERS)),
    Flow(user_sessions.register, "user_sessions", reads=(ORDERS, USERS), keeps=timed.USER_SESSIONS, fires=user_sessions_rules.close, emits=USER_SESSIONS),
    Flow(spending_spikes.register, "spending_spikes", reads=(ORDERS,), keeps=timed.SPENDING_SPIKES, fires=spending_spikes_rules.close, emits=SPENDING_SPIKES),
    Flow(order_stats.register, "order_stats", reads=(ORDERS,), keeps=timed.ORDER_STATS, tells=order_stats_rules.tell, emits=ORDER_STATS),
)
# fmt: on

# What other groups may read in place of `orders`: see HEADRACE_ORDERS_TOPIC.
# fmt: off
DEDUPLICATION_FLOWS = (
    Flow(orders_deduplicated.register, "orders_deduplicated", reads=(ORDERS,), keeps=timed.ORDERS_PASSED, fires=orders_deduplicated_rules.forget, emits=ORDERS_DEDUPLICATED),
)
# fmt: on

# By product, and by country: orders of all partitions meet in a task of their product's, or country's, own.
# fmt: off
SALES_FLOWS = (
    Flow(order_lines.register, "order_lines", reads=(ORDERS,), emits=ORDER_LINES),
    Flow(product_sales.register, "product_sales", reads=(ORDER_LINES,), keeps=sales.PRODUCT_SALES, global_tables=(of_products.PRODUCTS,), fires=product_sales_rules.close, emits=(PRODUCT_SALES, PRODUCT_REVENUES)),
    Flow(top_products.register, "top_products", reads=(PRODUCT_REVENUES,), keeps=sales.TOP_PRODUCTS, global_tables=(of_products.PRODUCTS,), fires=top_products_rules.close, emits=TOP_PRODUCTS),
    Flow(order_countries.register, "order_countries", reads=(USERS, ORDERS), keeps=sales.ORDER_COUNTRIES, fires=order_countries_rules.settle, emits=ORDER_VALUES),
    Flow(order_value_quantiles.register, "order_value_quantiles", reads=(ORDER_VALUES,), keeps=sales.ORDER_VALUE_QUANTILES, fires=order_value_quantiles_rules.close, emits=ORDER_VALUE_QUANTILES),
    Flow(products.register, "products", reads=(PRODUCTS,), keeps=of_products.PRODUCTS, emits=STOCK_ALERTS),
    Flow(product_views.register, "product_views", reads=(PRODUCTS,), keeps=of_products.PRODUCT_VIEWS),
)
# fmt: on

_TWINS = ((ORDERS, ORDERS_DEDUPLICATED),)
TOPOLOGY = Topology(FLOWS, dead_letters=DEAD_LETTERS, twins=_TWINS)
WINDOWS = Topology(
    WINDOW_FLOWS, dead_letters="windows-dead-letters", late_records=LATE_RECORDS, twins=_TWINS
)
DEDUPLICATION = Topology(
    DEDUPLICATION_FLOWS, dead_letters="deduplication-dead-letters", late_records=LATE_RECORDS
)
SALES = Topology(
    SALES_FLOWS, dead_letters="sales-dead-letters", late_records=LATE_RECORDS, twins=_TWINS
)

MAIN = "main"
GROUPS = {MAIN: TOPOLOGY, "windows": WINDOWS, "deduplication": DEDUPLICATION, "sales": SALES}
"""Flows with workers, commits and state of their own, by name: what waits for others goes beside MAIN."""
