"""The human page: people compare and rate pictures, look at what a judge said, and overrule it."""
