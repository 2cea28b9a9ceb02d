"""Models that the LSTM is compared with. Each takes histories and ranks items or predicts purchases."""
