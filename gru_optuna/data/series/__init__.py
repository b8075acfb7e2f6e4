"""Time series to windows."""
