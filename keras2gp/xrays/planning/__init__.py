"""Plans of an X-ray: shared programs, times measured on a few rows, cost, a limit of minutes."""
