"""The daemon: gateway, inbox, keeper, canary and schedule in one process."""
