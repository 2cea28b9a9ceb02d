"""What the network is trained for, and its losses. How it is trained is in training."""
