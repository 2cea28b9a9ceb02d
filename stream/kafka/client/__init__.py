"""Connections to Kafka: logins, errors, rights, reachability, groups as they are. No events."""
