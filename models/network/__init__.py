"""The LSTM, what ranks items beside it, and where its embeddings begin. No optimiser and no log."""
