"""START HERE: each flow in one row."""

from agents.high_value_orders import agent as high_value_orders
from agents.vip_upgrades import agent as vip_upgrades
from streams.engine.definitions import Flow, Topology
from streams.topics import DEAD_LETTERS, HIGH_VALUE_ORDERS, ORDERS, VIP_UPGRADES
from tables.definitions import USER_ORDERS

# fmt: off
FLOWS = (
    Flow(high_value_orders.register, "high_value_orders", reads=(ORDERS,), emits=HIGH_VALUE_ORDERS),
    Flow(vip_upgrades.register, "vip_upgrades", reads=(ORDERS,), emits=VIP_UPGRADES, keeps=USER_ORDERS),
)
# fmt: on

TOPOLOGY = Topology(FLOWS, dead_letters=DEAD_LETTERS)
