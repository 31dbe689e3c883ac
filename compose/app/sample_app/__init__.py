"""A service of the trading system, as small as one can be: it takes what strategies conclude."""
