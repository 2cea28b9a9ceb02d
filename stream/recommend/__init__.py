"""Which items are listed: filters, cold items, the shop's catalog. Pure."""
