"""From how many examples on a figure says something; below, tables say that there are too few."""

FEWEST = 50  # next items, or events that a purchase follows: a share of 50 is known to 14 points of 100
SHOPPERS = 10  # whose events rise and fall together
TOO_FEW = "too few"
RULE = f"fewer than {FEWEST} next items or purchases, or fewer than {SHOPPERS} shoppers"


def enough(examples: int, shoppers: int) -> bool:
    """Tell whether a figure of so many next items, or of so many purchases, says something."""
    return examples >= FEWEST and shoppers >= SHOPPERS
