"""START HERE: each flow in one row."""

from agents.enriched_orders import agent as enriched_orders
from agents.high_value_orders import agent as high_value_orders
from agents.user_order_minutes import agent as user_order_minutes
from agents.users import agent as users
from agents.vip_upgrades import agent as vip_upgrades
from streams.engine.definitions import Flow, Topology
from streams.topics import (
    DEAD_LETTERS,
    ENRICHED_ORDERS,
    HIGH_VALUE_ORDERS,
    ORDERS,
    USERS,
    VIP_UPGRADES,
)
from tables import definitions as tables

# fmt: off
FLOWS = (
    Flow(users.register, "users", reads=(USERS,), keeps=tables.USERS),
    Flow(high_value_orders.register, "high_value_orders", reads=(ORDERS,), emits=HIGH_VALUE_ORDERS),
    Flow(vip_upgrades.register, "vip_upgrades", reads=(ORDERS,), keeps=tables.USER_ORDERS, emits=VIP_UPGRADES),
    Flow(user_order_minutes.register, "user_order_minutes", reads=(ORDERS,), keeps=tables.USER_ORDER_MINUTES),
    Flow(enriched_orders.register, "enriched_orders", reads=(ORDERS,), joins=(tables.USERS,), emits=ENRICHED_ORDERS),
)
# fmt: on

TOPOLOGY = Topology(FLOWS, dead_letters=DEAD_LETTERS)

MAIN = "main"
GROUPS = {MAIN: TOPOLOGY}
"""Flows with workers, commits and state of their own, by name: what waits for others goes beside MAIN."""
