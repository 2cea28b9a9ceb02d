"""Why a score is what it is: which of a user's recent events made it. Pure."""
