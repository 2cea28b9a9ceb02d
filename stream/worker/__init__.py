"""What any processor of events needs: rounds, rebalances, health, metrics, logs."""
