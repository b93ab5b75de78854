"""The flows: a package each, whose agent.py moves and whose rules.py decides."""
