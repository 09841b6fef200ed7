"""From tiles to kernel matrices: plans, compiled programs, executors and stores."""
