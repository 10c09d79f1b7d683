"""Builder hosts: real SSH servers that stand for EC2 instances."""
