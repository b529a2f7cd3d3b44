"""sleepy-coder: a coding model that practises at night and is only ever swapped for a better one."""

__version__ = "0.1.0"
