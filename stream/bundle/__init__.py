"""The bundle as it is served: its files, its graphs, retrieval, and the parity that a load checks."""
