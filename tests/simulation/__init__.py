"""The real engine, steps and store against a simulated EC2, with a virtual clock and one seed."""
