"""EC2's control plane: moto's backends and responses with what they lack, one noun a file."""
