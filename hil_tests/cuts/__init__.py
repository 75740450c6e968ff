"""Power cuts at every flash operation of the node's durable store (R03, R04)."""
