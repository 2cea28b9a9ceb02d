"""From sequences to a checkpoint: configuration, epochs, calibration, holdout. No figures for people."""
