"""How events flow: Kafka, the engine, the flows. Knows no agent, topology.py aside."""
