"""The daemon. So far the gateway; inbox and schedule are not written, and `sleepy-coder night` runs a night by hand."""
