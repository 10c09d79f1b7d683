"""EC2 as steps see it: one noun a file, what is read of it and the calls that make, change or remove it."""
