"""Everything that talks to Kafka, and the only home of its client libraries."""
