"""What the commands do: the only place that wires configuration, store, clouds, steps and engine together."""
