"""What this package costs, beside its peers, measured against real servers: `python -m benchmarks`."""
