"""Studies: methods, budgets and label sets in one table, with intervals that survive review."""
