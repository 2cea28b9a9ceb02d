"""What a partition holds: sessions by user, their bound, its position. No Kafka."""
