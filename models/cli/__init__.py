"""The commands of training, a module each: they parse, call and print."""
