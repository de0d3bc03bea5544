"""From networks and inputs to what they measure; the only folder that imports torch."""
