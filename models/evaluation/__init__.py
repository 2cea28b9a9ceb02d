"""How good a checkpoint is: prequential replay, metrics, intervals, comparison, cold start, attribution."""
