"""The commands of serving: they parse, call and print."""
