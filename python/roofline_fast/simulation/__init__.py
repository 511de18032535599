"""Traffic through a serving engine, and what came of it."""
