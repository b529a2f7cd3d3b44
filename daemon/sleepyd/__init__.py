"""The daemon. Its process (gateway, inbox, schedule) is not written yet; `sleepy-coder night` runs a night by hand."""
