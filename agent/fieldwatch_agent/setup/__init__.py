"""First run: finds the device's log, understands it, asks what is left, writes ``agent.toml``, tries everything."""
