"""What every request passes through: access, limits and the log."""
